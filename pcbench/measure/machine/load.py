"""Whether a machine computes something else when a run starts."""

import os

import psutil

__all__ = ["busy", "busy_here"]

# of the cores: less disturbs little
BUSY_SHARE = 0.5
# a load average still holds what ended a minute ago, so what is used now is looked at for so long
LOOK_S = 0.2


def busy(load: float, cores: int, used: float) -> str | None:
    """One line about a busy machine; None where more than half of its cores are free.

    Args:
        load: mean number of processes that ran or waited to run, over the last minute.
        cores: of the machine.
        used: share of the cores' time that is spent now, 0…1.
    """
    if load < BUSY_SHARE * cores or used < BUSY_SHARE:
        return None
    return f"this machine is busy: load {load:.1f} on {cores} core{'s' * (cores != 1)} before the run; times suffer"


def busy_here() -> str | None:
    """`busy` of this machine, before this process computes anything."""
    load, cores = _load(), os.cpu_count() or 1
    return busy(load, cores, psutil.cpu_percent(LOOK_S) / 100) if busy(load, cores, 1.0) else None


def _load() -> float:
    return os.getloadavg()[0]
