"""Times of calls that are much shorter than a clock's step or a launch."""

import math
import time
from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from pcbench.measure.memory import is_out_of_memory

__all__ = ["RepeatedCall", "ReplayedCall", "TimedBy", "flush_caches", "free_what_is_flushed", "make_sampler"]

# what a sample is of: samples of different ones are not compared
TimedBy = Literal["repeats", "graph", "launches"]

# a sample on a CPU lasts at least so long
SAMPLE_MS = 2.0
# calls before the first sample
WARM_CALLS = 3
# what is read between samples: more than any second-level cache and than the last-level caches of 256 MiB
COLD_BYTES = 512 << 20


class RepeatedCall:
    """Samples on a CPU: the mean of so many calls that they take SAMPLE_MS.

    Args:
        call: what is timed.
        clock: seconds.
    """

    def __init__(self, call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> None:
        self.call, self.clock, self.calls = call, clock, 1
        self.timed_by: TimedBy = "repeats"
        self.warnings: list[str] = []
        for _ in range(WARM_CALLS):
            once = self.sample()
        self.calls = max(1, math.ceil(SAMPLE_MS / once)) if once > 0 else 1

    def sample(self) -> float:
        """Milliseconds of one call."""
        start = self.clock()
        for _ in range(self.calls):
            self.call()
        return (self.clock() - start) * 1e3 / self.calls


class ReplayedCall:
    """Samples on a GPU: device events around one replay of the call as a graph, with cold caches.

    A call that cannot be captured (it waits for the device) is launched anew each time, and says so in `warnings`.

    Args:
        call: what is timed.
        device: a GPU.
    """

    def __init__(self, call: Callable[[], object], device: torch.device) -> None:
        self.device = device
        self.timed_by: TimedBy = "graph"
        self.warnings: list[str] = []
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_CALLS):
                call()
        torch.cuda.current_stream(device).wait_stream(side)
        torch.cuda.synchronize(device)
        self.replay: Callable[[], object] = call
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                call()
            self.replay = graph.replay
        except RuntimeError as error:
            # no reason to time the launches instead
            if is_out_of_memory(error):
                raise
            self.timed_by = "launches"
            self.warnings.append(f"timed with its launches, no graph: {str(error).splitlines()[0]}")
        self.sample()

    def sample(self) -> float:
        """Milliseconds of one call."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        # the replay is queued while this runs, so the device never waits for the host
        flush_caches(self.device)
        begin.record()
        self.replay()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))


def make_sampler(call: Callable[[], object], device: torch.device) -> RepeatedCall | ReplayedCall:
    """The way of timing short calls on a device."""
    return RepeatedCall(call) if device.type == "cpu" else ReplayedCall(call, device)


def flush_caches(device: torch.device) -> None:
    """Reads so much that nothing else is left in a cache; queued, not waited for, on a GPU."""
    _cold(device).amax()


def free_what_is_flushed() -> None:
    """Gives back the memory that `flush_caches` reads."""
    _cold.cache_clear()


@cache
def _cold(device: torch.device) -> Tensor:
    return torch.zeros(COLD_BYTES, dtype=torch.uint8, device=device)
