"""The same inputs give the same bits."""

import pytest
import torch

from pcbench import ops, reference
from pcbench.measure.kernels.cases import CASES, run

WORDS = (
    "1000",
    "2000",
    "5000",
    "16385",
    "blocks",
    "splits",
    "long",
    "large",
    "8192",
    "tiles",
    "9 parts",
    "at once",
    "many",
)
# float16 is for GPUs
DTYPES = [torch.float32, torch.bfloat16, *([torch.float16] if torch.cuda.is_available() else [])]
# the large ones: several tasks, several splits
LARGE = [case for case in CASES if any(word in case.name for word in WORDS)]


def test_large_cases_cover_every_op():
    assert {case.op for case in LARGE} == set(reference.__all__)


def bits(results):
    return [x.contiguous().view(torch.uint8) if x.dim() else x for x in results.values()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(bits(first), bits(second), strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_three_runs_are_equal_bit_for_bit(case, dtype, device):
    backend = "hip" if device.type == "cuda" and torch.version.hip else device.type
    if reason := ops.why_not(backend, case.op, dtype=dtype):
        pytest.skip(reason)
    inputs = case.inputs(device, dtype)
    first = run(ops, case.op, inputs)
    for _ in range(2):
        assert same(first, run(ops, case.op, inputs))


@pytest.mark.parametrize("case", [c for c in LARGE if c.op != "chunk_select"], ids=str)
def test_result_does_not_depend_on_the_number_of_threads(case, isa):
    inputs = case.inputs("cpu", torch.float32)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(run(ops, case.op, inputs))
    torch.set_num_threads(before)
    assert same(results[0], results[1])
    assert same(results[0], results[2])
