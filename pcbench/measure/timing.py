"""Times on the device that did the work."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import linear_regression, median
from typing import TypeVar

import torch

__all__ = ["Elapsed", "StageClock", "clocked", "is_steady", "timed", "warm_up"]

T = TypeVar("T")

# passes whose slope is looked at, and how much of their median it may be a pass
STEADY_PASSES, STEADY_SLOPE = 3, 0.05


@dataclass(frozen=True)
class Elapsed:
    """Milliseconds of one call: device events on a GPU, the monotonic clock on a CPU.

    Args:
        ms: what counts; wall_ms: the monotonic clock beside a GPU's events, None on a CPU.
    """

    ms: float
    wall_ms: float | None = None


def clocked(function: Callable[[], T], device: torch.device) -> tuple[T, Elapsed]:
    """Result and times of one call; waits for the device before and after it."""
    if device.type == "cpu":
        start = time.perf_counter()
        result = function()
        return result, Elapsed((time.perf_counter() - start) * 1e3)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    begin.record()
    result = function()
    end.record()
    end.synchronize()
    wall_ms = (time.perf_counter() - start) * 1e3
    return result, Elapsed(begin.elapsed_time(end), wall_ms)


def timed(function: Callable[[], T], device: torch.device) -> tuple[T, float]:
    """Result and milliseconds of one call: device events on a GPU, the monotonic clock on a CPU."""
    result, elapsed = clocked(function, device)
    return result, elapsed.ms


def is_steady(times_ms: Sequence[float]) -> bool:
    """Whether the line through the last three passes is flat: its slope is at most 5 % of their median a pass."""
    last = times_ms[-STEADY_PASSES:]
    if len(last) < STEADY_PASSES:
        return False
    slope = linear_regression(range(STEADY_PASSES), last).slope
    return abs(slope) <= STEADY_SLOPE * median(last)


def warm_up(call: Callable[[], float], up_to: int) -> list[float]:
    """Milliseconds of calls until they are steady, or of `up_to` calls; the first holds what only a first call does."""
    times_ms: list[float] = []
    while len(times_ms) < up_to and not is_steady(times_ms):
        times_ms.append(call())
    return times_ms


class StageClock:
    """Adds up the named parts of one prefill at a time; `median_ms` is over the prefills.

    A part inside another is taken out of it, so that parts add up. On a GPU every part is an NVTX (on AMD: ROCTX)
    range too.

    Args:
        device: events on a GPU, the monotonic clock on a CPU; nothing waits inside a prefill.
    """

    def __init__(self, device: torch.device) -> None:
        self.passes: list[dict[str, float]] = []
        self.stages: dict[str, Stage] = {}
        self.open: list[tuple[str, object]] = []
        self.closed: list[tuple[str, str | None, object, object]] = []
        self.on_gpu = device.type == "cuda"
        self.now: Callable[[], object] = _event if self.on_gpu else time.perf_counter

    def __call__(self, name: str) -> "Stage":
        if name not in self.stages:
            self.stages[name] = Stage(self, name)
        return self.stages[name]

    def end_pass(self) -> None:
        """Closes one prefill; waits for the device."""
        stages: dict[str, float] = defaultdict(float)
        for name, around, start, end in self.closed:
            ms = _ms(start, end)
            stages[name] += ms
            if around is not None:
                stages[around] -= ms
        self.passes.append(dict(stages))
        self.closed.clear()

    def median_ms(self) -> dict[str, float] | None:
        """Stage → median milliseconds, None before the first pass."""
        if not self.passes:
            return None
        return {name: median(p.get(name, 0.0) for p in self.passes) for name in self.passes[0]}


@dataclass(frozen=True)
class Stage:
    """A named part; entered as often as it is met, so it calls little."""

    clock: StageClock
    name: str

    def __enter__(self) -> None:
        clock = self.clock
        if clock.on_gpu:
            torch.cuda.nvtx.range_push(self.name)
        clock.open.append((self.name, clock.now()))

    def __exit__(self, *_: object) -> None:
        clock = self.clock
        name, start = clock.open.pop()
        clock.closed.append((name, clock.open[-1][0] if clock.open else None, start, clock.now()))
        if clock.on_gpu:
            torch.cuda.nvtx.range_pop()


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _ms(start: object, end: object) -> float:
    if isinstance(start, float) and isinstance(end, float):
        return (end - start) * 1e3
    assert isinstance(start, torch.cuda.Event), "one kind of clock"
    end.synchronize()  # type: ignore[attr-defined]
    return float(start.elapsed_time(end))
