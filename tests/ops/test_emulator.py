"""The emulator itself: planted faults are caught and named, faultless kernels pass in every order."""

import ctypes

import pytest
import torch
from emulated import LIBRARIES, ORDERS, emulated_ops, pairwise

# fault → what the error says, as in ext/emulator/planted.cpp
FAULTS = {
    1: "before the wait for the copy into it",
    3: "touches shared memory out of bounds: 4 bytes at 512 of 512",
    4: "writes global memory out of bounds",
    5: "the barrier must be reached by every thread, got 64 of 128 (0-63)",
    6: "threads 7 have ended",
    7: "lanes of a warp must do the same",
    8: "writes an input",
    9: "reads global memory that nothing was written to",
    12: "reads global memory out of bounds",
    13: "must wait for the one in front of it before it touches global memory",
}
MISSING_BARRIER = 2
TOO_MUCH_SHARED = 10
TOO_MANY_BLOCKS = 11
THREADS = 128


@pytest.fixture(params=LIBRARIES)
def planted(request):
    """Runs the planted kernel with a fault; returns what it wrote and the error."""
    ops = emulated_ops(request.param)
    ops.library.pcbench_emulator_planted.restype = ctypes.c_char_p

    def run(fault, order="forward"):
        before, after = torch.arange(float(THREADS)), torch.zeros(THREADS)
        with ops.order(order, seed=7):
            error = ops.library.pcbench_emulator_planted(
                fault, ctypes.c_void_p(before.data_ptr()), ctypes.c_void_p(after.data_ptr())
            )
        return after, error.decode()

    return run


def wanted():
    return 2 * (torch.arange(THREADS) ^ 1).float()


@pytest.mark.parametrize("order", ORDERS)
def test_faultless_kernel_passes_in_every_order(planted, order):
    after, error = planted(0, order)
    assert error == ""
    assert torch.equal(after, wanted())


@pytest.mark.parametrize("fault", FAULTS, ids=list(FAULTS.values()))
@pytest.mark.parametrize("order", ORDERS)
def test_planted_fault_is_named(planted, fault, order):
    _, error = planted(fault, order)
    assert FAULTS[fault] in error
    assert error.startswith("pcbench::device::planted_kernel: block ")
    assert "thread" in error


@pytest.mark.parametrize("order", ORDERS)
def test_missing_barrier_shows_in_the_result(planted, order):
    after, error = planted(MISSING_BARRIER, order)
    assert error == ""
    assert after.isnan().any()


def test_more_shared_memory_than_there_is_is_refused(planted):
    _, error = planted(TOO_MUCH_SHARED)
    assert "planted_kernel: shared memory must be at most" in error
    assert "got 204800" in error


def test_more_blocks_than_a_launch_takes_are_refused(planted):
    _, error = planted(TOO_MANY_BLOCKS)
    assert "a launch must have <= " in error
    assert error.endswith("got 4294967296; split the batch or the rows over several calls")


def test_emulator_works_on_after_an_error(planted):
    planted(5)
    after, error = planted(0)
    assert error == ""
    assert torch.equal(after, wanted())


@pytest.mark.parametrize("library", LIBRARIES)
def test_blocks_are_counted_by_kernel(library):
    ops = emulated_ops(library)
    ops.reset()
    ops.merge_states(torch.randn(2, 1, 3, 20, 64), torch.randn(2, 1, 3, 20))
    # a block of 256 threads merges a row a warp
    rows = 256 // {"cuda": 32, "hip": 64}[library]
    assert ops.counts()["blocks of pcbench::device::merge_states_kernel"] == -(-60 // rows)


def test_pairwise_covers_every_pair():
    factors = {"a": [1, 2, 3], "b": "xyz", "c": [True, False], "d": [0, 1, 2, 3]}
    rows = pairwise(**factors)
    assert len(rows) < 20
    for first in factors:
        for second in factors:
            if first < second:
                found = {(row[first], row[second]) for row in rows}
                assert found == {(x, y) for x in factors[first] for y in factors[second]}
