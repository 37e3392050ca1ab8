import time

import pytest
import torch

from pcbench.measure.timing import StageClock, timed

CPU = torch.device("cpu")


def test_timed_returns_result_and_milliseconds():
    before = time.perf_counter()
    result, ms = timed(lambda: sum(range(100_000)), CPU)
    assert result == 4999950000
    assert 0 < ms <= (time.perf_counter() - before) * 1e3


def test_stages_of_a_pass_add_up_and_passes_give_a_median():
    clock = StageClock(CPU)
    ticks = iter([0, 1, 5, 7, 10, 13, 20, 21, 30, 32])
    clock._now = lambda: next(ticks) * 1e-3
    for stages in (("a", "b", "a"), ("a", "b")):
        for name in stages:
            with clock(name):
                pass
        clock.end_pass()
    assert clock.passes == [pytest.approx({"a": 4, "b": 2}), pytest.approx({"a": 1, "b": 2})]
    assert clock.median_ms() == pytest.approx({"a": 2.5, "b": 2})


def test_a_stage_that_raises_is_closed():
    clock = StageClock(CPU)
    with pytest.raises(KeyError), clock("a"):
        raise KeyError
    clock.end_pass()
    assert clock.median_ms().keys() == {"a"}


def test_without_a_pass_there_are_no_stages():
    assert StageClock(CPU).median_ms() is None
