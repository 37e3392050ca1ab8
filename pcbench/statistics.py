"""Percentiles, intervals of ratios and shares. Seeded: the same samples give the same interval."""

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["percentile", "ratio_interval", "wilson_interval"]

RESAMPLES = 10_000
# fewer pairs than this say nothing about spread
MIN_PAIRS = 5


def percentile(values: Sequence[float], q: float) -> float:
    """The q-th percentile, linear between samples."""
    return float(np.percentile(values, q))


def ratio_interval(
    numerator: Sequence[float], denominator: Sequence[float], seed: int = 0
) -> tuple[float, float | None, float | None]:
    """Ratio of the medians of interleaved samples with its 95 % interval.

    Sample i of both sides was taken next to each other, so pairs are resampled: a drift of the machine
    moves both sides.

    Args:
        numerator: n samples.
        denominator: n samples.
        seed: of the resampling.

    Returns:
        ratio, low, high; low and high are None under 5 pairs.

    Raises:
        ValueError: the lengths differ or are 0.

    Source: percentile bootstrap, Efron and Tibshirani 1993, 10,000 resamples.
    """
    if len(numerator) != len(denominator) or not numerator:
        raise ValueError(f"ratio_interval: two equally long lists, got {len(numerator)} and {len(denominator)}")
    a, b = np.asarray(numerator, float), np.asarray(denominator, float)
    ratio = float(np.median(a) / np.median(b))
    if len(a) < MIN_PAIRS:
        return ratio, None, None
    index = np.random.default_rng(seed).integers(0, len(a), (RESAMPLES, len(a)))
    ratios = np.median(a[index], axis=1) / np.median(b[index], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return ratio, float(low), float(high)


def wilson_interval(successes: float, n: int) -> tuple[float, float]:
    """95 % interval of a share.

    Args:
        successes: 0…n.
        n: ≥ 1.

    Returns:
        (low, high), within 0…1.

    Source: Wilson 1927.
    """
    z = 1.959963984540054
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
