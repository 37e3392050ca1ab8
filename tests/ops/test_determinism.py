"""The same inputs give the same bits."""

import pytest
import torch

from pcbench import ops
from pcbench.measure.cases import CASES, run

# the large ones: several tasks, several splits
LARGE = [
    c
    for c in CASES
    if any(
        word in c.name for word in ("1000", "blocks", "splits", "long", "large", "8192", "tiles", "9 parts", "at once")
    )
]


def bits(results):
    return [x.contiguous().view(torch.uint8) if x.dim() else x for x in results.values()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(bits(first), bits(second), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_three_runs_are_equal_bit_for_bit(case, dtype, device):
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
