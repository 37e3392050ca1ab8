"""What is refused, and in which words."""

import pytest
import torch
from emulated import LIBRARIES, emulated_ops
from torch._subclasses.fake_tensor import FakeTensorMode

from pcbench import ops, reference
from pcbench.errors import BackendUnavailable, ShapeError
from pcbench.measure.memory import is_out_of_memory
from pcbench.ops import libraries
from pcbench.ops.gpus import TorchGpu
from tests.ops.calls import (
    CALLS,
    MODEL_TENSORS,
    attention,
    cached,
    decode,
    draw,
    dual,
    ints,
    mass,
    merge,
    nll,
    quantized,
    select,
    topk,
    window,
    with_dtype,
)

# op, arguments, what the message says
WRONG = [
    ("calibrated_attention", attention(q=draw(4, 5, 64)), "q must be"),
    ("calibrated_attention", attention(k=draw(1, 2, 8, 64)), "v must be"),
    ("calibrated_attention", attention(q=draw(1, 3, 5, 64)), "H must be a multiple of Hkv = 2, got 3"),
    ("calibrated_attention", attention(v=draw(1, 2, 9, 64, dtype=torch.bfloat16)), "v must be"),
    ("calibrated_attention", attention(q=draw(1, 4, 5, 128)[..., ::2]), "q must have a contiguous last dimension"),
    ("calibrated_attention", attention(mass_rows=-1), "mass_rows must be"),
    ("calibrated_attention", attention(lse_in=draw(1, 4, 5)), "out_in and lse_in go together"),
    ("calibrated_attention", attention(evicted=ints([[0], [0], [0]])), "evicted must be"),
    ("calibrated_attention", attention(key_lengths=torch.tensor([[1, 2]])), "key_lengths must"),
    ("key_mass", mass(k=draw(1, 3, 9, 64)), "H must be a multiple of Hkv = 3, got 4"),
    ("key_mass", mass(k=draw(1, 2, 9, 64, dtype=torch.bfloat16)), "k must be"),
    ("key_mass", mass(lse=draw(1, 4, 4)), "lse must be"),
    ("key_mass", mass(lse=draw(1, 4, 5, dtype=torch.bfloat16)), "lse must"),
    ("key_mass", mass(lse=draw(1, 5, 4).transpose(1, 2)), "lse must have a contiguous last dimension"),
    ("key_mass", mass(lse=draw(1, 4, 6)[..., :5]), "lse must be contiguous"),
    ("key_mass", mass(mass_rows=-1), "mass_rows must be"),
    ("key_mass", mass(query_lengths=ints(5, 5)), "query_lengths must be"),
    ("key_mass", mass(key_lengths=torch.tensor([[1, 2]])), "key_lengths must"),
    ("cached_attention", cached(slots=ints(0)), "slots must be"),
    ("cached_attention", cached(lengths=ints([8, 8], [1, 1])), "lengths must be"),
    ("cached_attention", cached(v_rows=draw(15, 64)), "v_rows must be"),
    ("cached_attention", cached(v_rows=draw(15, 32), v_starts=ints([0, 7])), "v_rows must be"),
    ("cached_attention", cached(v_starts=ints([0, 7, 8])), "v_starts must be"),
    ("quantized_attention", quantized(v_codes=torch.ones(15, 64, dtype=torch.int8)), "v_codes must be"),
    ("quantized_attention", quantized(v_codes=torch.ones(16, 64, dtype=torch.uint8)), "v_codes must"),
    ("quantized_attention", quantized(k_codes=draw(16, 64)), "k_codes must"),
    ("quantized_attention", quantized(k_codes=torch.ones(32, 64, dtype=torch.int8)[::2]), "k_codes must be contiguous"),
    ("quantized_attention", quantized(k_scales=draw(2, 64, dtype=torch.bfloat16)), "k_scales must be"),
    ("quantized_attention", quantized(v_scales=draw(16)), "v_scales must"),
    ("quantized_attention", quantized(v_zeros=draw(16, dtype=torch.bfloat16)), "k_zeros and v_zeros go together"),
    (
        "quantized_attention",
        quantized(k_zeros=draw(1, 64, dtype=torch.bfloat16), v_zeros=draw(16, dtype=torch.bfloat16)),
        "k_zeros and v_zeros go with uint8 codes",
    ),
    ("quantized_attention", quantized(slots=ints(0)), "slots must be"),
    ("decode_attention", decode(q=draw(1, 4, 2, 64)), "q must be"),
    ("decode_attention", decode(starts=ints([0, 8], [0, 8])), "starts must be"),
    ("decode_attention", decode(v_starts=ints([0], [8])), "v_starts must be"),
    ("decode_attention", decode(v_rows=draw(15, 64)), "v_rows must be"),
    ("decode_attention", decode(longest=-1), "longest must be"),
    ("dual_chunk_attention", dual(lengths=ints([8, 8], [1, 1])), "lengths must be"),
    ("dual_chunk_attention", dual(v_rows=draw(15, 64)), "v_rows must be"),
    ("dual_chunk_attention", dual(turns=draw(5, 7)), "R of turns must be even"),
    ("dual_chunk_attention", dual(turns=draw(5, 66)), "R of turns must be even"),
    ("dual_chunk_attention", dual(period=0), "period must be in 1..P"),
    ("dual_chunk_attention", dual(period=5), "period must be in 1..P"),
    ("dual_chunk_attention", dual(query_lengths=ints(1, 1)), "query_lengths must be"),
    ("dual_chunk_attention", dual(gains=draw(1, 3)), "gains must be"),
    ("dual_chunk_attention", dual(tile_rows=1), "tile_rows must be"),
    ("dual_chunk_attention", dual(chunks=ints([[[0]], [[0]]])), "tile_rows must be"),
    ("dual_chunk_attention", dual(chunks=ints([[[0]], [[0]]]), tile_rows=1), "chunks must be"),
    ("window_mass", window(longest=-1), "longest must be"),
    ("window_mass", window(lse=draw(1, 4, 3)), "lse must be"),
    ("merge_states", merge(lses=draw(2, 1, 1, 4)), "lses must be"),
    ("query_nll_update", nll(first_column=-1), "first_column must be"),
    ("query_nll_update", nll(row_sum=draw(2)), "row_sum must be"),
    ("chunk_topk", topk(best_ids=ints(0)), "best_ids must be"),
    ("chunk_topk", topk(slots=torch.tensor([2, 3])), "slots must"),
    ("select_tokens", select(capacity=0), "capacity must be"),
    ("select_tokens", select(pool=4), "pool must be odd"),
    ("select_tokens", select(recent=-1), "recent must be"),
    ("select_tokens", select(protect=torch.zeros(1, 39, dtype=torch.bool)), "protect must be"),
]


def ready(op):
    """The op has run: its later calls ask the kernels first, and the reference's words only about what these refuse."""
    getattr(ops, op)(**next(make for name, _, make in CALLS if name == op)())


@pytest.mark.parametrize(("op", "arguments", "words"), WRONG, ids=[f"{op}-{words}" for op, _, words in WRONG])
def test_wrong_arguments_are_refused_everywhere_in_the_same_words(op, arguments, words):
    with pytest.raises(ShapeError, match=words) as expected:
        getattr(reference, op)(**arguments)
    for _ in range(2):
        with pytest.raises(ShapeError) as found:
            getattr(ops, op)(**arguments)
        assert str(found.value) == str(expected.value)
        ready(op)
    with pytest.raises(RuntimeError, match=f"{op}: {words.split(',')[0]}"):
        getattr(torch.ops.pcbench, op)(**arguments)


@pytest.mark.parametrize(
    ("op", "arguments", "name"),
    [
        ("calibrated_attention", attention(mass_rows=2**63), "mass_rows"),
        ("key_mass", mass(mass_rows=2**63), "mass_rows"),
        ("window_mass", window(longest=2**63), "longest"),
        ("decode_attention", decode(longest=2**63), "longest"),
        ("dual_chunk_attention", dual(chunks=ints([[[0]], [[0]]]), tile_rows=2**63), "tile_rows"),
        ("query_nll_update", nll(first_column=2**63), "first_column"),
        *(("select_tokens", select(**{name: 2**63 + 1}), name) for name in ("pool", "sink", "recent")),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_numbers_beyond_64_bits_are_refused(op, arguments, name):
    ready(op)
    for ops_of in (ops, reference):
        with pytest.raises(ShapeError, match=rf"{op}: {name} must be below 2\^63, got 922"):
            getattr(ops_of, op)(**arguments)


@pytest.mark.parametrize("largest", [2**31 - 1, 2**31, 2**62 + 1, 2**63 - 1])
@pytest.mark.parametrize("backend", ["cpu", *LIBRARIES])
def test_numbers_beyond_what_is_there_are_all_of_it(backend, largest):
    """No op loops over a number that a caller gives."""
    found = ops.backend("cpu") if backend == "cpu" else emulated_ops(backend)
    for name in ("pool", "sink", "recent"):
        call = select(**{name: largest - (largest % 2 == 0) if name == "pool" else largest})
        expected = reference.select_tokens(**call | {name: {"pool": 79}.get(name, 40)})
        assert all(map(torch.equal, found.select_tokens(**call), expected))
    call = attention(mass_rows=largest)
    expected = reference.calibrated_attention(**call | {"mass_rows": 5})[2]
    assert torch.allclose(found.calibrated_attention(**call)[2], expected, atol=1e-5)
    call = mass(mass_rows=largest)
    expected = reference.key_mass(**call | {"mass_rows": 5})
    assert torch.allclose(found.key_mass(**call), expected, rtol=1e-4)
    far, near = nll(first_column=largest), nll(first_column=9)
    found.query_nll_update(**far)
    assert torch.equal(far["row_target"].isfinite(), near["row_target"].isfinite())


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("op", "arguments", "words"), WRONG, ids=[f"{op}-{words}" for op, _, words in WRONG])
def test_wrong_arguments_are_refused_by_the_gpu_ops_in_the_same_words(op, arguments, words, library):
    with pytest.raises(RuntimeError, match=f"{op}: {words.split(',')[0]}"):
        getattr(emulated_ops(library), op)(**arguments)


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        ("calibrated_attention", attention()),
        ("key_mass", mass()),
        ("cached_attention", cached()),
        ("window_mass", window()),
        ("decode_attention", decode()),
        ("quantized_attention", quantized()),
        ("dual_chunk_attention", dual()),
        ("query_nll_update", nll()),
        ("select_tokens", select()),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_dtype_without_a_kernel_is_refused_by_name(op, arguments):
    arguments = with_dtype(arguments, torch.float64)
    getattr(reference, op)(**arguments)
    with pytest.raises(BackendUnavailable, match=f"{op} on cpu needs float32, bfloat16 or float16, got float64"):
        getattr(ops, op)(**arguments)
    with pytest.raises(RuntimeError, match="must have a dtype that this op takes"):
        getattr(torch.ops.pcbench, op)(**arguments)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("op", "lead", "make"), [x for x in CALLS if x[1] in MODEL_TENSORS], ids=lambda x: str(x)[:20])
def test_gpu_ops_take_float16_and_refuse_float64(op, lead, make, library):
    function = getattr(emulated_ops(library), op)
    function(**with_dtype(make(), torch.float16))
    with pytest.raises(RuntimeError, match=f"{op}: {lead} must have a dtype that this op takes, got Double"):
        function(**with_dtype(make(), torch.float64))


# every tensor of every op whose last dimension is longer than one
LAYOUTS = [(op, name) for op, _, make in CALLS for name, x in make().items() if torch.is_tensor(x) and x.shape[-1] > 1]


@pytest.mark.parametrize(("op", "name"), LAYOUTS)
def test_layout_without_a_kernel_is_refused_by_name(op, name):
    make = next(call for other, _, call in CALLS if other == op)
    arguments = make()
    x = arguments[name]
    arguments[name] = torch.stack([x, x], -1).flatten(-2)[..., ::2]
    assert torch.equal(arguments[name], x)
    words = f"{op}: {name} must have a contiguous last dimension, got 2"
    for functions in (torch.ops.pcbench, *(emulated_ops(library) for library in LIBRARIES)):
        with pytest.raises(RuntimeError, match=words):
            getattr(functions, op)(**arguments)


def test_float64_state_is_refused_by_name():
    ready("query_nll_update")
    arguments = nll()
    arguments |= {name: arguments[name].double() for name in ("row_max", "row_sum", "row_target")}
    with pytest.raises(
        BackendUnavailable, match="query_nll_update on cpu needs float32, bfloat16 or float16, got float64"
    ):
        ops.query_nll_update(**arguments)


@pytest.mark.parametrize(("op", "lead", "make"), CALLS[:6], ids=lambda x: str(x)[:20])
def test_head_dim_without_a_kernel_is_refused_by_name(op, lead, make):
    ready(op)
    arguments = {
        name: x[..., :1].repeat_interleave(80, -1) if name in MODEL_TENSORS else x for name, x in make().items()
    }
    with pytest.raises(BackendUnavailable, match=f"{op} on cpu needs head_dim 64, 96 or 128, got 80"):
        getattr(ops, op)(**arguments)
    for functions in (torch.ops.pcbench, *(emulated_ops(library) for library in LIBRARIES)):
        with pytest.raises(RuntimeError, match=f"{op}: head_dim must be 64, 96 or 128, got 80"):
            getattr(functions, op)(**arguments)


@pytest.fixture
def gpu_tensors(monkeypatch):
    """gpu_tensors(arguments): on a GPU that is not there; the library of its backend is, with code for sm_80."""
    monkeypatch.setattr(libraries, "load", lambda backend: object())
    monkeypatch.setattr("pcbench.ops.backends._reasons", {})
    info = libraries.import_module("pcbench._build_info")
    made = type("Info", (), vars(info) | {"backends": ["cpu", "cuda"], "arch_lists": {"cuda": ["sm_80"]}})
    monkeypatch.setattr(libraries, "import_module", lambda name: made)
    monkeypatch.setattr(libraries.TorchGpu, "here", lambda: TorchGpu("cuda", "T4", "sm_75"))
    with FakeTensorMode():
        yield lambda arguments: {
            name: torch.empty(x.shape, dtype=x.dtype, device="cuda") if torch.is_tensor(x) else x
            for name, x in arguments.items()
        }


@pytest.mark.parametrize(("op", "lead", "make"), CALLS, ids=lambda x: str(x)[:20])
def test_gpu_without_code_is_refused_by_name(op, lead, make, gpu_tensors):
    with pytest.raises(BackendUnavailable, match=f"{op}: this build has code for sm_80, got T4, which is sm_75"):
        getattr(ops, op)(**gpu_tensors(make()))


@pytest.mark.parametrize(("op", "lead", "make"), CALLS, ids=lambda x: str(x)[:20])
def test_cpu_tensor_among_those_of_a_gpu_is_refused_by_name(op, lead, make, gpu_tensors):
    arguments = make()
    on_gpu = gpu_tensors(arguments)
    for name in on_gpu:
        if torch.is_tensor(on_gpu[name]) and name != lead:
            with pytest.raises(ShapeError, match=f"{op}: {name} must be on cuda:0 as {lead} is, got cpu"):
                getattr(ops, op)(**on_gpu | {name: arguments[name]})


def test_capacity_beyond_the_kernels_is_refused():
    ready("select_tokens")
    with pytest.raises(ShapeError, match=r"select_tokens: capacity must be in 1\.\.8192, got 8193"):
        ops.select_tokens(**select(capacity=8193))


@pytest.mark.parametrize(
    ("op", "arguments", "moved", "lead"),
    [
        ("calibrated_attention", attention(), "v", "q"),
        ("calibrated_attention", attention(key_lengths=ints([9, 9])), "key_lengths", "q"),
        ("key_mass", mass(), "lse", "q"),
        ("cached_attention", cached(), "slots", "q"),
        ("window_mass", window(), "lse", "q_last"),
        ("decode_attention", decode(), "lengths", "q"),
        ("quantized_attention", quantized(), "v_scales", "q"),
        ("dual_chunk_attention", dual(), "turns", "q"),
        ("merge_states", merge(), "lses", "outs"),
        ("query_nll_update", nll(), "row_sum", "logits"),
        ("chunk_topk", topk(), "best_slots", "scores"),
        ("select_tokens", select(), "mass", "k"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_tensors_of_two_devices_are_refused_by_name(op, arguments, moved, lead):
    ready(op)
    arguments = arguments | {moved: arguments[moved].to("meta")}
    for backend in (ops, reference):
        with pytest.raises(ShapeError, match=f"{op}: {moved} must be on cpu as {lead} is, got meta"):
            getattr(backend, op)(**arguments)


def test_tensor_of_another_backend_is_refused():
    with pytest.raises(BackendUnavailable, match="merge_states: the cpu backend takes cpu tensors, got a meta tensor"):
        ops.backend("cpu").merge_states(*(x.to("meta") for x in (draw(2, 1, 1, 3, 64), draw(2, 1, 1, 3))))
    with pytest.raises(BackendUnavailable, match="the cpu backend takes cpu tensors, got a meta tensor"):
        ops.backend("cpu").merge_states(**{name: x.to("meta") for name, x in merge().items()})
    with pytest.raises(BackendUnavailable, match="kernels for cpu, cuda and hip tensors, got a meta tensor"):
        ops.merge_states(*(x.to("meta") for x in (draw(2, 1, 1, 3, 64), draw(2, 1, 1, 3))))


def test_changed_argument_that_overlaps_another_is_refused():
    best = ints(0, 1)
    with pytest.raises(RuntimeError, match="chunk_topk: best_ids must not overlap best_slots, got the same memory"):
        ops.chunk_topk(**topk(best_ids=best, best_slots=best))
    state = draw(3)
    with pytest.raises(RuntimeError, match="query_nll_update: row_max must not overlap row_sum, got the same memory"):
        ops.query_nll_update(**nll(row_max=state, row_sum=state))


@pytest.mark.parametrize(
    ("op", "arguments", "changed", "read"),
    [("query_nll_update", nll(), "row_target", "logits"), ("chunk_topk", topk(), "best_scores", "scores")],
)
def test_changed_argument_that_overlaps_an_input_is_refused(op, arguments, changed, read):
    # the last elements of the input
    arguments[changed] = arguments[read].flatten()[-arguments[changed].numel() :]
    for functions in (ops, torch.ops.pcbench, *(emulated_ops(library) for library in LIBRARIES)):
        with pytest.raises(RuntimeError, match=f"{op}: {changed} must not overlap {read}, got the same memory"):
            getattr(functions, op)(**arguments)


def test_memory_that_is_not_there_is_asked_for_by_name():
    # more than 47 bits of address, which no system promises
    for functions in (ops, torch.ops.pcbench, *(emulated_ops(library) for library in LIBRARIES)):
        with pytest.raises(RuntimeError, match=r"window_mass: memory for \[1, 1, 4, 35184372088832\] must be") as error:
            functions.window_mass(**window(longest=1 << 45))
        assert is_out_of_memory(error.value)
