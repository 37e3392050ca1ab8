"""Numbers, intervals and what may be claimed from them, as text. What is missing is the empty string."""

import math
from typing import NamedTuple

from pcbench.statistics import MIN_PAIRS

__all__ = [
    "NEEDS_REPEATS",
    "Estimate",
    "claim",
    "compact",
    "counted",
    "interval",
    "milliseconds",
    "number",
    "percent",
    "scientific",
    "signed",
    "spread",
]

NEEDS_REPEATS = f"interval needs {MIN_PAIRS} repeats"
NO_DIFFERENCE = "no significant difference"


class Estimate(NamedTuple):
    """A number with its 95 % interval; without one, `low` and `high` are None."""

    value: float
    low: float | None
    high: float | None


def number(value: float | None, factor: float = 1.0, *, digits: int = 4) -> str:
    """So many significant digits; whole numbers in full: `5,213` `37.42` `0.3120` `3.10e-07`."""
    if value is None:
        return ""
    if isinstance(value, int) and factor == 1.0:
        return f"{value:,}"
    scaled = value * factor
    if not math.isfinite(scaled):
        return str(scaled)
    if scaled == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(scaled)))
    if magnitude < -3:
        return f"{scaled:.2e}"
    return f"{scaled:,.{max(0, digits - 1 - magnitude)}f}"


def scientific(value: float) -> str:
    """Three significant digits and the power, for errors and bounds."""
    return f"{value:.2e}" if value else "0"


def counted(count: int, noun: str) -> str:
    """`1 cell`, `2 cells`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def percent(share: float | None) -> str:
    """A share 0…1 as 0…100 with one decimal."""
    return "" if share is None else f"{share * 100:.1f}"


def milliseconds(value: float) -> str:
    """A time in the unit a person would say it in."""
    return f"{number(value / 1e3)} s" if value >= 1e3 else f"{number(value)} ms"


def signed(value: float, digits: int = 0) -> str:
    """With its sign, a true minus."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text[1:] if not text.strip("+−0.") else text


def compact(tokens: float) -> str:
    """A length on an axis: `2K` for 2048, `1M` for 1048576, else the number."""
    for unit, size in (("M", 1 << 20), ("K", 1 << 10)):
        if tokens >= size and tokens % size == 0:
            return f"{tokens / size:.0f}{unit}"
    return f"{tokens:,.0f}"


def interval(estimate: Estimate | None) -> str:
    """`[1.746, 1.951]`, or why there is none."""
    if estimate is None:
        return ""
    if estimate.low is None or estimate.high is None:
        return NEEDS_REPEATS
    return f"[{number(estimate.low)}, {number(estimate.high)}]"


def spread(low: float | None, high: float | None) -> str:
    """Two shares as `[37.6, 96.4]`."""
    return "" if low is None or high is None else f"[{percent(low)}, {percent(high)}]"


def claim(estimate: Estimate, neutral: float, above: str, below: str) -> str:
    """What the interval allows to say.

    Args:
        estimate: with or without an interval.
        neutral: the value that means "the same".
        above: said when the whole interval lies above `neutral`.
        below: said when it lies below.
    """
    if estimate.low is None or estimate.high is None:
        return NEEDS_REPEATS
    if estimate.low <= neutral <= estimate.high:
        return NO_DIFFERENCE
    return above if estimate.low > neutral else below
