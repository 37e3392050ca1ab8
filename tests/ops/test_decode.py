"""Random ragged segments for one new token, on every backend that this machine can run or emulate."""

from functools import partial
from random import Random

import pytest
import torch
from emulated import LIBRARIES, emulated_ops

from pcbench import ops
from pcbench.measure.kernels import attention_cases
from pcbench.measure.kernels.cases import Case, check_case

FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def drawn(seed, most):
    """A case whose heads have budgets of their own, none and one key among them."""
    random = Random(seed)
    batch, kv_heads = random.randint(1, 3), random.randint(2, 4)
    lengths = [[random.choice([0, 1, random.randint(2, most)]) for _ in range(kv_heads)] for _ in range(batch)]
    make = partial(
        attention_cases.decode,
        heads=kv_heads * random.choice([1, 3, 4, 8]),
        lengths=lengths,
        dim=random.choice([64, 96, 128]),
        longest=most + random.choice([0, 1, 70]),
        sliced=random.random() < 0.3,
        shared_keys=random.random() < 0.5,
    )
    return Case("decode_attention", f"drawn {seed}", make)


def check(case, backend, dtype):
    for result, comparison in check_case(case, backend, "cpu", FLOATS[dtype]).items():
        assert comparison.ok, f"{result}: {comparison}"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("seed", range(20))
def test_random_segments_on_every_instruction_set(seed, dtype, isa):
    check(drawn(seed, most=1500), ops.backend("cpu"), dtype)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("seed", range(4))
def test_random_segments_on_emulated_gpus(seed, dtype, library):
    check(drawn(100 + seed, most=150), emulated_ops(library), dtype)
