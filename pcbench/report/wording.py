"""Numbers, intervals and what may be claimed from them, as text. What is missing is the empty string."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from pcbench.differences import Difference
from pcbench.statistics import MIN_SAMPLES

__all__ = [
    "NEEDS_REPEATS",
    "Estimate",
    "claim",
    "compact",
    "counted",
    "interval",
    "milliseconds",
    "number",
    "peak_spread",
    "peak_text",
    "percent",
    "points_span",
    "scientific",
    "signed",
    "spread",
]

# of times; what scores need, `differences` knows
NEEDS_REPEATS = f"cannot tell, needs n ≥ {MIN_SAMPLES}"
MIB = 1 / (1 << 20)
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
        return f"none, needs n ≥ {MIN_SAMPLES}"
    return f"[{number(estimate.low)}, {number(estimate.high)}]"


def spread(low: float | None, high: float | None) -> str:
    """Two shares as `[37.6, 96.4]`."""
    return "" if low is None or high is None else f"[{percent(low)}, {percent(high)}]"


def peak_text(peak: int | None, passes: Sequence[int] | None) -> str:
    """`308.0 MiB (263.1 to 331.0)`; the least and the most where there were several passes."""
    text = "not measured" if peak is None else f"{number(peak, MIB)} MiB"
    return f"{text} ({peak_spread(passes)})" if peak_spread(passes) else text


def peak_spread(passes: Sequence[int] | None) -> str:
    """The least and the most of several passes in MiB, empty for one."""
    if not passes or len(passes) < 2:
        return ""
    return f"{number(min(passes), MIB)} to {number(max(passes), MIB)}"


def points_span(change: Difference) -> str:
    """Of a change in points: `[−43.40, +43.40]`."""
    if change.low is None or change.high is None:
        return ""
    return f"[{signed(change.low, 2)}, {signed(change.high, 2)}]"


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
