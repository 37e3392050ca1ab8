"""Times on the device that did the work."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import TypeVar

import torch

__all__ = ["StageClock", "timed"]

T = TypeVar("T")


def timed(function: Callable[[], T], device: torch.device) -> tuple[T, float]:
    """Result and milliseconds of one call: device events on a GPU, the monotonic clock on a CPU."""
    if device.type == "cpu":
        start = time.perf_counter()
        result = function()
        return result, (time.perf_counter() - start) * 1e3
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    begin.record()
    result = function()
    end.record()
    end.synchronize()
    return result, begin.elapsed_time(end)


class StageClock:
    """Adds up the named parts of one prefill at a time; `median_ms` is over the prefills.

    Args:
        device: events on a GPU, the monotonic clock on a CPU; nothing waits inside a prefill.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.passes: list[dict[str, float]] = []
        self.open: list[tuple[str, object, object]] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = self._now()
        try:
            yield
        finally:
            self.open.append((name, start, self._now()))

    def end_pass(self) -> None:
        """Closes one prefill; waits for the device."""
        stages: dict[str, float] = defaultdict(float)
        for name, start, end in self.open:
            stages[name] += self._ms(start, end)
        self.passes.append(dict(stages))
        self.open.clear()

    def median_ms(self) -> dict[str, float] | None:
        """Stage → median milliseconds, None before the first pass."""
        if not self.passes:
            return None
        return {name: median(p.get(name, 0.0) for p in self.passes) for name in self.passes[0]}

    def _now(self) -> object:
        if self.device.type == "cpu":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _ms(self, start: object, end: object) -> float:
        if isinstance(start, float) and isinstance(end, float):
            return (end - start) * 1e3
        assert isinstance(start, torch.cuda.Event), "one kind of clock"
        end.synchronize()  # type: ignore[attr-defined]
        return float(start.elapsed_time(end))
