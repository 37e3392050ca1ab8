"""Ops inside CUDA graphs: nothing waits for the device, and lengths are read when a graph is replayed."""

import pytest
import torch

from pcbench import ops
from pcbench.measure.kernels.cases import CASES, compare, run
from pcbench.ops.fakes import FAKES

NAMES = ("unequal lengths", "query", "9 parts", "a later tile", "many", "everything at once", "budgets of heads")
CHOSEN = [case for case in CASES if case.name in NAMES and case.op in FAKES]


@pytest.fixture
def gpu(device):
    if device.type == "cpu":
        pytest.skip("graphs are of GPUs")
    return device


def captured(call):
    """What call() returns, and a function that computes it anew in place."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()
    return results, graph.replay


@pytest.mark.parametrize("case", CHOSEN, ids=str)
def test_op_in_a_graph_equals_the_op(case, gpu):
    inputs = case.inputs(gpu, torch.bfloat16)
    wanted = run(ops, case.op, inputs)
    results, replay = captured(lambda: run(ops, case.op, inputs))
    for _ in range(2):
        for x in results.values():
            x.zero_()
        replay()
        assert all(torch.equal(results[name].nan_to_num(), x.nan_to_num()) for name, x in wanted.items())


NEW_LENGTHS = (
    "cached_attention-decode, many splits",
    "cached_attention-query",
    "cached_attention-batch with unused places",
    "dual_chunk_attention-decode, many splits",
    "dual_chunk_attention-unequal lengths",
    "dual_chunk_attention-listed chunks",
)


@pytest.mark.parametrize("name", NEW_LENGTHS)
def test_op_in_a_graph_reads_new_lengths(name, gpu):
    case = next(case for case in CASES if str(case) == name)
    inputs = case.inputs(gpu, torch.bfloat16)
    results, replay = captured(lambda: run(ops, case.op, inputs))
    for divisor in (2, 5):
        inputs["lengths"] //= divisor
        replay()
        for result, comparison in compare(case.op, inputs, results).items():
            assert comparison.ok, f"lengths / {divisor}: {result}: {comparison}"
