"""What a GPU's driver tells while something runs: power, clocks, temperature, throttling, memory of all processes."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from threading import Event
from typing import Protocol

import psutil

__all__ = ["Meter", "NoMeter", "Reading", "driver_bytes", "others_on_gpu", "sampled", "summary", "throttled"]

INTERVAL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One look at a GPU; None where its driver does not say.

    Args:
        used_bytes: memory in use on the whole GPU, of all processes.
        throttle: why its clocks are lower than they could be; settings and idleness are no reasons.
    """

    power_w: float | None = None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    used_bytes: int | None = None
    throttle: frozenset[str] | None = None


class Meter(Protocol):
    """Where readings come from: nvml, amdsmi or none."""

    name: str

    def read(self) -> Reading: ...
    def pids(self) -> list[int]:
        """Processes that compute on the GPU."""
        ...


@dataclass(frozen=True)
class NoMeter:
    """A device without telemetry, and why."""

    reason: str
    name: str = "none"

    def read(self) -> Reading:
        return Reading()

    def pids(self) -> list[int]:
        return []


@contextmanager
def sampled(meter: Meter, into: list[Reading], interval_s: float = INTERVAL_S) -> Iterator[None]:
    """Takes readings in a thread while the block runs, and one at its end.

    Args:
        meter: without telemetry no thread is started.
        into: takes the readings.
        interval_s: between two of them.
    """
    if isinstance(meter, NoMeter):
        yield
        return
    ended = Event()

    def sample() -> None:
        while not ended.wait(interval_s):
            into.append(meter.read())

    with ThreadPoolExecutor(1) as pool:
        sampling = pool.submit(sample)
        try:
            yield
        finally:
            ended.set()
        sampling.result()
    into.append(meter.read())


def summary(readings: list[Reading]) -> dict[str, float | str] | None:
    """Name → value over the readings, None without any; what no reading knows is left out.

    `throttled_ratio` is the share of readings with a reason among those that know, `throttled` names the reasons.
    """
    if not readings:
        return None
    found: dict[str, float | str] = {"readings": len(readings)}
    numbers: dict[str, tuple[Callable[[list[float]], float], list[float | None]]] = {
        "power_w_p50": (median, [r.power_w for r in readings]),
        "power_w_max": (max, [r.power_w for r in readings]),
        "sm_clock_mhz_min": (min, [r.sm_clock_mhz for r in readings]),
        "sm_clock_mhz_max": (max, [r.sm_clock_mhz for r in readings]),
        "memory_clock_mhz_min": (min, [r.memory_clock_mhz for r in readings]),
        "temperature_c_max": (max, [r.temperature_c for r in readings]),
    }
    for name, (of, values) in numbers.items():
        if known := [x for x in values if x is not None]:
            found[name] = of(known)
    if told := [r.throttle for r in readings if r.throttle is not None]:
        found["throttled_ratio"] = sum(map(bool, told)) / len(told)
        if reasons := frozenset().union(*told):
            found["throttled"] = ", ".join(sorted(reasons))
    return found


def driver_bytes(readings: list[Reading]) -> int | None:
    """The most memory that was in use on the whole GPU."""
    return max((r.used_bytes for r in readings if r.used_bytes is not None), default=None)


def throttled(readings: list[Reading]) -> str | None:
    """One line for a record's warnings; None where no throttling is known."""
    found = summary(readings)
    if found is None or not found.get("throttled_ratio"):
        return None
    told = sum(r.throttle is not None for r in readings)
    return f"the GPU was throttled in {found['throttled_ratio']:.0%} of {told} readings: {found['throttled']}"


def others_on_gpu(meter: Meter) -> str | None:
    """One line about processes on the GPU that are not of this run; None where it is alone.

    In a container the driver may name processes by ids of the machine: one of them is then taken for this one.
    """
    here = psutil.Process()
    mine = {here.pid, *(other.pid for other in (*here.parents(), *here.children(recursive=True)))}
    seen = set(meter.pids())
    others = sorted(seen - mine)
    if not seen & mine:
        others = others[1:]
    if not others:
        return None
    return f"{len(others)} other process{'es' if len(others) > 1 else ''} on the GPU: {', '.join(map(str, others))}"
