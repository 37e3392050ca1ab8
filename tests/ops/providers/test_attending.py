"""Attention of chunks by a library: the CPU's flash kernel of torch stands for all of them here."""

import sys
from functools import partial
from types import ModuleType
from typing import get_args

import pytest
import torch
from torch.nn import attention

from pcbench import ops, reference
from pcbench.config import Attention
from pcbench.errors import BackendUnavailable, ConfigError, ShapeError
from pcbench.measure.kernels.attention_cases import calibrated
from pcbench.measure.kernels.cases import compare, run
from pcbench.measure.kernels.draws import Draws
from pcbench.ops.providers import AUTO, OWN, PROVIDERS, attending, libraries
from pcbench.ops.providers.choice import TimesFile
from pcbench.ops.providers.kernels import Kernel, learn
from pcbench.ops.providers.libraries import _activated
from pcbench.reference.packing import of_heads

CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
flash = PROVIDERS["flash"].attend
# what runs on this machine
HERE = [
    pytest.param(device, name, dtype, id=f"{device}-{name}-{str(dtype).removeprefix('torch.')}")
    for device in ("cpu", "cuda")[: 1 + torch.cuda.is_available()]
    for name, provider in PROVIDERS.items()
    for dtype in DTYPES
    if provider.why_not(device, dtype) is None
]


def chunks(lengths=None, dtype=torch.float32, seed=0, rows=130, heads=6, kv_heads=2, device=CPU, **more):
    """Arguments of a call over chunks, ragged where lengths are given; what lies beyond a length is NaN or infinite."""
    batch = len(lengths or (1, 2))
    keys = None if lengths is None else [[n] * kv_heads for n in lengths]
    shape = {"batch": batch, "heads": heads, "kv_heads": kv_heads, "rows": rows, "keys": rows, "key_lengths": keys}
    inputs = calibrated(Draws(seed, torch.device(device), dtype), **shape, query_lengths=lengths, **more)
    if lengths is not None:
        inputs["key_lengths"] = of_heads(inputs["query_lengths"], kv_heads)
    return inputs


@pytest.mark.parametrize("mass_rows", [0, 1, 8, 200])
@pytest.mark.parametrize("lengths", [None, [130, 0, 1, 77]])
@pytest.mark.parametrize(("device", "name", "dtype"), HERE)
def test_a_librarys_attention_is_the_references(device, name, dtype, lengths, mass_rows):
    found = ops.backend("cpu" if device == "cpu" else "hip" if torch.version.hip else "cuda", name)
    inputs = chunks(lengths, dtype, device=device, mass_rows=mass_rows, sliced=lengths is None)
    got = run(found, "calibrated_attention", inputs)
    assert {result: c for result, c in compare("calibrated_attention", inputs, got).items() if not c.ok} == {}
    assert found.kernels == name


@pytest.mark.parametrize(
    "changes",
    [
        {"evicted": 0.3},
        {"incoming": True},
        {"causal": False},
        {"keys": 131},
        {"rows": 0, "keys": 0},
        {"lengths": [130, 5], "key_lengths": [[130, 130], [5, 5]]},
    ],
)
def test_other_calls_are_the_backends_own(changes):
    """Lengths of keys that nobody said are those of the rows are among them."""
    found, own = ops.backend("cpu", "flash"), ops.backend("cpu")
    told = dict(batch=2, heads=4, kv_heads=2, rows=130, keys=130) | changes
    inputs = calibrated(Draws(1, CPU, torch.float32), **{n: x for n, x in told.items() if n != "lengths"})
    if "lengths" in changes:
        inputs["query_lengths"] = torch.tensor(changes["lengths"], dtype=torch.int32)
    for got, wanted in zip(found.calibrated_attention(**inputs), own.calibrated_attention(**inputs), strict=True):
        assert torch.equal(got, wanted)
    assert found.kernels == OWN


def test_what_no_op_takes_is_refused_in_the_references_words():
    inputs = chunks()
    with pytest.raises(ShapeError) as wanted:
        reference.calibrated_attention(**inputs | {"v": inputs["v"][:, :1]})
    with pytest.raises(ShapeError) as found:
        ops.backend("cpu", "flash").calibrated_attention(**inputs | {"v": inputs["v"][:, :1]})
    assert str(found.value) == str(wanted.value)
    with torch.enable_grad(), pytest.raises(RuntimeError, match="compiled ops have no gradient"):
        ops.backend("cpu", "flash").calibrated_attention(**inputs | {"q": inputs["q"].requires_grad_()})


# libraries that are like torch's but for one habit
def base_2(q, k, v, scale):
    out, lse = flash(q, k, v, scale)
    return out, lse * 1.4426950408889634


def padded(q, k, v, scale):
    out, lse = (
        torch.nn.functional.pad(x, [0, 0] * (x.dim() == 4) + [0, 63], value=torch.nan) for x in flash(q, k, v, scale)
    )
    return out, lse[..., None]


def without_groups(q, k, v, scale):
    if q.shape[1] != k.shape[1]:
        raise RuntimeError("as many heads of keys as of queries")
    return flash(q, k, v, scale)


def by_turns(q, k, v, scale):
    """Query head h reads kv-head h mod Hkv."""
    repeats = q.shape[1] // k.shape[1]
    return flash(q, k.repeat(1, repeats, 1, 1), v.repeat(1, repeats, 1, 1), scale)


HABITS = {
    base_2: {"nats": 0.6931471805599453},
    padded: {},
    without_groups: {"repeats": True},
    by_turns: {"repeats": True},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("attend", HABITS)
def test_habits_of_a_library_are_seen_in_a_small_call(attend, dtype):
    kernel = learn(attend, CPU, dtype, 64)
    assert kernel == Kernel(attend, **HABITS[attend])
    inputs = chunks([130, 0, 1, 77], dtype)
    q, k, v = (inputs[name] for name in "qkv")
    out, lse = kernel(q, k, v, inputs["scale"], inputs["query_lengths"])
    mass = ops.backend("cpu").key_mass(lse=lse, **{name: x for name, x in inputs.items() if name != "v"})
    comparisons = compare("calibrated_attention", inputs, {"out": out, "lse": lse, "mass": mass})
    assert all(c.ok for c in comparisons.values()), comparisons


def shifted(q, k, v, scale):
    """Rows see the key behind theirs, too."""
    rows = q.shape[2]
    return reference.calibrated_attention(
        q, k, v, scale=scale, causal=True, query_lengths=torch.full((len(q),), rows - 1, dtype=torch.int32)
    )[:2]


def lost(q, k, v, scale):
    return torch.full_like(q, torch.nan), q[..., 0].float()


def unscaled(q, k, v, scale):
    return flash(q, k, v, 1.0)


def refusing(q, k, v, scale):
    raise RuntimeError("no kernel\nfor this")


@pytest.mark.parametrize("attend", [shifted, lost, unscaled])
def test_a_library_that_computes_something_else_is_not_used(attend):
    assert learn(attend, CPU, torch.float32, 64) == "its output or log-sum-exp of a small call is wrong"


def test_a_library_that_refuses_says_why_and_no_memory_is_no_refusal():
    assert learn(refusing, CPU, torch.float32, 64) == "it refuses a small call (no kernel)"

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        learn(full, CPU, torch.float32, 64)


def test_a_library_that_cannot_run_says_so_in_one_line():
    with pytest.raises(BackendUnavailable) as error:
        ops.backend("cpu", "cudnn")
    assert str(error.value) == 'attention: cudnn must be able to run here, got: it needs a GPU; take "own"'
    assert error.value.reasons == {"cudnn": "it needs a GPU"}
    with pytest.raises(ConfigError, match='unknown kernel "flahs"; did you mean "flash"'):
        ops.backend("cpu", "flahs")


def test_every_name_has_a_provider():
    assert set(get_args(Attention)) == {AUTO, OWN, *PROVIDERS}


def test_what_a_gpu_does_not_take():
    assert PROVIDERS["cudnn"].why_not("cpu") == "it needs a GPU"
    assert PROVIDERS["flash"].why_not("cpu", torch.float64) == "it needs float32 or bfloat16 or float16, got float64"
    some = attending.PROVIDERS["flash"].__class__(flash, lambda device: None)
    assert some.why_not("cuda", torch.float32) == "it needs bfloat16 or float16, got float32"
    assert some.why_not("cuda", torch.float16, 44) == "it needs a head_dim that is a multiple of 8 up to 256, got 44"
    assert some.why_not("cuda", torch.float16, 80) is None
    gone = PROVIDERS["flash_attn"].why_not("cuda")
    assert gone is None or gone.startswith("package flash_attn ")


@pytest.mark.parametrize(("package", "word"), [("flash_attn", "return_attn_probs"), ("aiter", "return_lse")])
def test_packages_take_rows_before_heads(package, word, monkeypatch):
    def flash_attn_func(q, k, v, *, softmax_scale, causal, **asked):
        assert (causal, asked) == (True, {word: True})
        out, lse = flash(*(x.transpose(1, 2) for x in (q, k, v)), softmax_scale)
        return out.transpose(1, 2), lse, None

    made = ModuleType(package)
    monkeypatch.setitem(sys.modules, package, made)
    libraries._missing.cache_clear()
    assert PROVIDERS[package].why_not("cuda") == f"package {package} has no flash_attn_func"
    made.flash_attn_func = flash_attn_func
    libraries._missing.cache_clear()
    assert PROVIDERS[package].why_not("cuda", torch.bfloat16, 128) is None
    attend = PROVIDERS[package].attend
    assert learn(attend, CPU, torch.bfloat16, 128) == Kernel(attend)
    libraries._missing.cache_clear()


def test_torchs_kernels_say_what_a_machine_lacks(monkeypatch):
    flash3, cudnn = PROVIDERS["flash3"], PROVIDERS["cudnn"]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert flash3.why_not("cuda") == "it needs compute capability 9.x, got 8.x"
    assert PROVIDERS["flash4"].why_not("cuda") == "it needs compute capability 9.x or 10.x, got 8.x"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    reason = flash3.why_not("cuda")
    assert reason is None or reason.startswith("package flash_attn_interface cannot be imported (")
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: False)
    assert cudnn.why_not("cuda") == "this torch finds no cuDNN"
    monkeypatch.delattr(attention, "restore_flash_attention_impl")
    assert flash3.why_not("cuda") == "this torch has no switch to FA3"
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert flash3.why_not("cuda") == cudnn.why_not("cuda") == "it needs an NVIDIA GPU"


def test_on_a_cpu_auto_is_our_own_and_the_reference_is_itself():
    found = ops.backend("cpu", AUTO)
    found.calibrated_attention(**chunks())
    assert (found.kernels, found.ms, found.warnings) == (OWN, None, [])
    assert ops.backend("reference", "flash") is ops.backend("reference")
    assert ops.backend("cpu", OWN).merge_states is not None


@pytest.fixture
def automatic(monkeypatch, tmp_path):
    """Ops on a CPU that choose as on a GPU where calls take these milliseconds, and the calls that were timed."""
    timed = []

    def made(ms):
        def once(device, call):
            # our own call is made by the ops, others by a kernel
            name = OWN if call.func.__name__ == "calibrated_attention" else "flash"
            timed.append(name)
            call()
            return ms[name]

        file = TimesFile(tmp_path / "times.json")
        monkeypatch.setattr(attending, "_device_ms", once)
        monkeypatch.setattr(attending, "times_file", lambda: file)
        monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "GPU of a test")
        found = ops.backend("cpu", AUTO)
        found.name = AUTO
        return found

    return made, timed


@pytest.mark.parametrize(("ms", "wanted"), [({OWN: 2.0, "flash": 1.0}, "flash"), ({OWN: 1.0, "flash": 1.0}, OWN)])
def test_auto_takes_the_fastest_and_measures_a_case_once(automatic, ms, wanted):
    made, timed = automatic
    for _ in range(2):
        found = made(ms)
        for length in (130, 140):
            got = found.calibrated_attention(**chunks(rows=length))
            assert len(got) == 3
        assert (found.kernels, found.ms, found.warnings) == (wanted, ms, [])
    # in turns, a warm-up and five
    assert timed == [OWN, "flash"] * 6
    # the second had them from the file
    assert found.trials == 0


def test_auto_leaves_out_what_a_small_call_shows_to_be_wrong_and_says_so(automatic, monkeypatch):
    monkeypatch.setattr(attending, "find_kernel", lambda *_: "its output or log-sum-exp of a small call is wrong")
    made, timed = automatic
    found = made({OWN: 2.0})
    found.calibrated_attention(**chunks())
    assert (found.kernels, timed) == (OWN, [OWN] * 6)
    said = "attention by flash gave no time: its output or log-sum-exp of a small call is wrong"
    assert found.warnings == [said]


def test_auto_that_has_settled_measures_nothing_more(automatic):
    made, timed = automatic
    found = made({OWN: 2.0, "flash": 1.0})
    found.settle()
    found.calibrated_attention(**chunks())
    assert (found.kernels, timed) == (OWN, [])
    found.measures = True
    found.calibrated_attention(**chunks())
    found.settle()
    found.calibrated_attention(**chunks(rows=300))
    assert found.used == {OWN: 1, "flash": 2}
    assert len(timed) == found.trials == 12


def test_torchs_switch_is_turned_for_a_call_and_back():
    turned = []

    class Handle:
        def __init__(self, name):
            self.name = name

        def remove(self):
            turned.append(f"{self.name} off")

    def register(name):
        turned.append(f"{name} on")
        return Handle(name)

    for name in ("of a user", "of a test"):
        attention.register_flash_attention_impl(name, register_fn=partial(register, name))
    with _activated("of a test"):
        assert attention.current_flash_attention_impl() == "of a test"
    assert attention.current_flash_attention_impl() is None
    assert turned == ["of a test on", "of a test off"]
    attention.activate_flash_attention_impl("of a user")
    with pytest.raises(RuntimeError), _activated("of a test"):
        raise RuntimeError
    assert attention.current_flash_attention_impl() == "of a user"
    attention.restore_flash_attention_impl()
