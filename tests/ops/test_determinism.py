"""The same inputs give the same bits."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pcbench import ops, reference
from pcbench.measure.kernels.cases import CASES, run
from pcbench.ops.isa import multiplies_bfloat16

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
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
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


# beyond the cores of most machines that test: threads wait for others that do not run
THREADS = (1, 2, 3, 4, 8)
COMPILED = [case for case in LARGE if case.op != "chunk_select"]


@pytest.fixture
def threads():
    """The number of torch's threads may be set; it ends with the test."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("case", COMPILED, ids=str)
def test_result_does_not_depend_on_the_number_of_threads(case, dtype, isa, threads):
    inputs = case.inputs("cpu", dtype)
    results = []
    for count in THREADS:
        torch.set_num_threads(count)
        results.append(run(ops, case.op, inputs))
    assert [same(results[0], result) for result in results] == [True] * len(THREADS)


def test_bfloat16_logits_do_not_depend_on_the_number_of_threads(isa, threads):
    if not multiplies_bfloat16():
        pytest.skip(f"{isa} multiplies no bfloat16")
    a, w = torch.randn(37, 62).bfloat16(), torch.randn(1000, 62).bfloat16()
    results = []
    for count in THREADS:
        torch.set_num_threads(count)
        results.append(torch.full((37, 1000), torch.nan))
        torch.ops.pcbench._logits(a, w, results[-1])
    assert [torch.equal(results[0], result) for result in results] == [True] * len(THREADS)


def test_calls_of_several_python_threads_keep_apart(threads):
    """Each with its own number of torch's threads, and all in the same op at first."""
    prepared = [(case, case.inputs("cpu", torch.float32)) for case in COMPILED if "long" not in case.name]
    wanted = [run(ops, case.op, inputs) for case, inputs in prepared]
    together = threading.Barrier(len(THREADS))

    def call(count):
        torch.set_num_threads(count)
        together.wait()
        found = [run(ops, case.op, inputs) for case, inputs in prepared]
        return [str(case) for (case, _), a, b in zip(prepared, wanted, found, strict=True) if not same(a, b)]

    with ThreadPoolExecutor(len(THREADS)) as pool:
        assert list(pool.map(call, THREADS)) == [[]] * len(THREADS)
