"""key_mass is the mass of calibrated_attention without the attention, whoever made the log-sum-exp."""

from random import Random

import pytest
import torch
from emulated import LIBRARIES, emulated_ops

from pcbench import ops, reference
from pcbench.measure.kernels.attention_cases import calibrated
from pcbench.measure.kernels.cases import widened
from pcbench.measure.kernels.draws import Draws
from pcbench.measure.parity import compare_mass

FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BACKENDS = ("reference", "cpu", *LIBRARIES)


def backend_of(name):
    return emulated_ops(name) if name in LIBRARIES else ops.backend(name)


def made(seed, dtype, device="cpu", **shape):
    return calibrated(Draws(seed, torch.device(device), FLOATS[dtype]), **shape)


def drawn(seed, dtype, most):
    """Arguments of calibrated_attention; rows without keys and lengths of 0 and 1 are among them."""
    random = Random(seed)
    batch, kv_heads = random.randint(1, 2), random.randint(1, 3)
    rows, keys = random.randint(1, most), random.randint(1, most)

    def length(size):
        return random.choice([0, 1, random.randint(0, size), size])

    ragged = {
        "query_lengths": [length(rows) for _ in range(batch)],
        "key_lengths": [[length(keys) for _ in range(kv_heads)] for _ in range(batch)],
    }
    return made(
        seed,
        dtype,
        batch=batch,
        heads=kv_heads * random.choice([1, 3, 4]),
        kv_heads=kv_heads,
        rows=rows,
        keys=keys,
        dim=random.choice([64, 96, 128]),
        causal=random.random() < 0.7,
        mass_rows=random.choice([1, 8, 33, most + 5]),
        sliced=random.random() < 0.3,
        **(ragged if random.random() < 0.6 else {}),
    )


def mass_alone(backend, inputs, lse):
    return backend.key_mass(lse=lse, **{name: x for name, x in inputs.items() if name != "v"})


def check(backend, inputs):
    _, lse, mass = backend.calibrated_attention(**inputs)
    assert torch.equal(mass_alone(backend, inputs, lse), mass)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_mass_of_calibrated_attention_bit_for_bit(seed, dtype, isa):
    check(ops.backend("cpu"), drawn(seed, dtype, most=600))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_mass_of_calibrated_attention_bit_for_bit_on_emulated_gpus(seed, dtype, library):
    check(emulated_ops(library), drawn(100 + seed, dtype, most=150))


def check_flash(found, dtype, device="cpu"):
    """The mass under the log-sum-exp of torch's flash attention, over repeated keys, is that of the reference."""
    inputs = made(5, dtype, device, batch=2, heads=6, kv_heads=2, rows=130, keys=130, mass_rows=40)
    k, v = (inputs[name].repeat_interleave(3, 1) for name in "kv")
    name = "_scaled_dot_product_flash_attention" + ("_for_cpu" if inputs["q"].device.type == "cpu" else "")
    _, lse, *_ = getattr(torch.ops.aten, name)(inputs["q"], k, v, 0.0, True, scale=inputs["scale"])
    truth = reference.calibrated_attention(**widened(inputs))[2]
    comparison = compare_mass(mass_alone(found, inputs, lse.contiguous()), truth, 40)
    assert comparison.ok, comparison


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_log_sum_exp_of_torch_flash_attention_gives_the_mass(backend, dtype):
    check_flash(backend_of(backend), dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_log_sum_exp_of_torch_flash_attention_on_a_gpu_gives_the_mass(dtype, device):
    if device.type == "cpu":
        pytest.skip("this one is of GPUs")
    check_flash(ops, dtype, device)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_that_saw_nothing_adds_nothing(backend, dtype):
    found = backend_of(backend)
    inputs = made(6, dtype, heads=4, kv_heads=2, rows=6, keys=70, causal=False, mass_rows=3)
    lse = reference.calibrated_attention(**inputs)[1]
    lse[:, :, -1] = -torch.inf
    before = inputs | {"q": inputs["q"][:, :, :-1], "mass_rows": 2}
    wanted = mass_alone(found, before, lse[:, :, :-1].contiguous())
    torch.testing.assert_close(mass_alone(found, inputs, lse), wanted, rtol=1e-5, atol=1e-7)
    assert not mass_alone(found, inputs, lse.fill_(-torch.inf)).any()
