import sys
import time
from collections import Counter

import pytest
import torch
from tiny import make_prompt, make_runner, no_stages

from pcbench.measure.timing import StageClock, clocked, is_steady, timed, warm_up
from pcbench.methods.parallel_comp import ParallelComp

CPU = torch.device("cpu")


def test_timed_returns_result_and_milliseconds():
    before = time.perf_counter()
    result, ms = timed(lambda: sum(range(100_000)), CPU)
    assert result == 4999950000
    assert 0 < ms <= (time.perf_counter() - before) * 1e3


def test_stages_of_a_pass_add_up_and_passes_give_a_median():
    clock = StageClock(CPU)
    ticks = iter([0, 1, 5, 7, 10, 13, 20, 21, 30, 32])
    clock.now = lambda: next(ticks) * 1e-3
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


class Event:
    """A device event of a clock that ticks at every record."""

    seen: Counter

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.seen["record"] += 1
        self.at = self.seen["record"]

    def synchronize(self):
        self.seen["wait"] += 1

    def elapsed_time(self, end):
        return float(end.at - self.at)


@pytest.fixture
def gpu(monkeypatch):
    """torch's timing and ranges on a GPU that counts."""
    seen = Counter()
    monkeypatch.setattr(Event, "seen", seen, raising=False)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: seen.update(["wait"]))
    monkeypatch.setattr(torch.cuda.nvtx, "range_push", lambda name: seen.update(["push", name]))
    monkeypatch.setattr(torch.cuda.nvtx, "range_pop", lambda: seen.update(["pop"]))
    return seen


def test_clocked_on_a_cpu_has_one_clock():
    result, elapsed = clocked(lambda: 3, CPU)
    assert (result, elapsed.wall_ms) == (3, None)


def test_clocked_on_a_gpu_has_events_and_the_wall_clock(gpu):
    result, elapsed = clocked(lambda: time.sleep(0.01), torch.device("cuda"))
    assert (result, elapsed.ms) == (None, 1.0)
    assert elapsed.wall_ms >= 10
    assert gpu == {"record": 2, "wait": 2}


def test_stages_on_a_gpu_are_ranges_and_wait_for_nothing(gpu):
    clock = StageClock(torch.device("cuda"))
    with clock("chunks"), clock("embed"):
        pass
    assert gpu == {"record": 4, "push": 2, "pop": 2, "chunks": 1, "embed": 1}
    clock.end_pass()
    # records 1 and 4 around 2 and 3
    assert clock.passes == [{"chunks": 2.0, "embed": 1.0}]


def test_a_stage_inside_another_is_taken_out_of_it():
    clock = StageClock(CPU)
    ticks = iter([0, 10, 14, 20, 21, 50])
    clock.now = lambda: next(ticks) * 1e-3
    with clock("query"):
        for _ in range(2):
            with clock("calibration"):
                pass
    clock.end_pass()
    assert clock.passes == [pytest.approx({"query": 45, "calibration": 5})]


def calls_of(function):
    """Calls of Python and C functions, returns not counted: the work of the interpreter without a clock."""
    seen = Counter()
    sys.setprofile(lambda frame, event, what: seen.update([event]))
    try:
        function()
    finally:
        sys.setprofile(None)
    return seen["call"] + seen["c_call"]


@pytest.mark.parametrize("calibration", [[], "paper", [{"zone": "all", "layers": [0, 29]}]])
def test_stages_cost_less_than_a_hundredth_of_a_prefill(calibration):
    # calls are counted, so a matmul weighs as much as reading the clock; SmolLM2-135M has 30 layers
    runner = make_runner(num_hidden_layers=30)
    config = ParallelComp.Config(chunk_tokens=16, keep=2, calibration=calibration).resolve(runner.spec, "cpu")
    method, prompt = ParallelComp(config, runner), make_prompt(context=96)
    method.prefill(prompt, no_stages)
    clock = StageClock(CPU)

    def one_stage():
        with clock("chunks"):
            pass

    whole = calls_of(lambda: method.prefill(prompt, clock))
    stages = len(clock.closed)
    # of chunks, their selection, the query, and of every calibrated layer
    assert stages == 20 + sum(len(config.rules("global", layer)) for layer in range(30))
    assert stages * calls_of(one_stage) < 0.01 * whole


@pytest.mark.parametrize(
    ("times", "steady"),
    [
        ([], False),
        ([10.0, 10.0], False),
        ([10.0, 10.0, 10.0], True),
        ([900.0, 10.2, 10.0, 10.1], True),
        ([14.0, 12.0, 10.0], False),
        # growing slower is not steady either
        ([10.0, 11.0, 12.0], False),
    ],
)
def test_is_steady_looks_at_the_slope_of_three_passes(times, steady):
    assert is_steady(times) is steady


def test_warm_up_ends_when_steady_or_at_its_cap():
    times = iter([500.0, 20.0, 12.0, 10.0, 10.1, 10.0, 10.0])
    assert warm_up(lambda: next(times), 20) == [500.0, 20.0, 12.0, 10.0, 10.1, 10.0]
    falling = iter(range(1000, 0, -200))
    assert warm_up(lambda: next(falling), 4) == [1000, 800, 600, 400]
    assert warm_up(lambda: pytest.fail("called"), 0) == []
