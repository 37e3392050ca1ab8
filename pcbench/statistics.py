"""Percentiles, intervals of ratios, means and shares. Seeded: the same samples give the same interval."""

import math
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from statistics import NormalDist

import numpy as np

__all__ = [
    "CONFIDENCE",
    "MIN_SAMPLES",
    "mean_interval",
    "median_interval",
    "outliers",
    "percentile",
    "perplexity",
    "ratio_change",
    "ratio_interval",
    "reached_confidence",
    "repeats_that_tell",
    "score_interval",
    "settled",
    "wilson_interval",
]

RESAMPLES = 10_000
CONFIDENCE = 0.95
# fewer samples than this say nothing about spread
MIN_SAMPLES = 5
LARGEST_NLL = 18 * math.log(10)


def percentile(values: Sequence[float], q: float) -> float:
    """The q-th percentile, linear between samples."""
    return float(np.percentile(values, q))


def outliers(values: Sequence[float]) -> int:
    """How many lie more than 1.5 interquartile ranges below the lower or above the upper quartile.

    Source: the fences of Tukey 1977.
    """
    low, high = np.percentile(values, [25, 75])
    reach = 1.5 * (high - low)
    return sum(not low - reach <= x <= high + reach for x in values)


def median_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float] | None:
    """95 % interval of the median; None under 5 values.

    Args:
        values: samples of one quantity.
        seed: of the resampling.

    Source: percentile bootstrap, Efron and Tibshirani 1993, 10,000 resamples.
    """
    if len(values) < MIN_SAMPLES:
        return None
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(np.median(np.asarray(values, float)[drawn], axis=1), [2.5, 97.5])
    return float(low), float(high)


def settled(lists: Sequence[Sequence[float]], relative_error: float) -> bool:
    """Whether interleaved samples say enough: half of a 95 % interval is at most `relative_error` of its value.

    Args:
        lists: equally long samples; of one its median is looked at, of several every ratio to the first.
        relative_error: 0…1.
    """
    found: list[tuple[float, float | None, float | None]] = []
    if len(lists) == 1:
        found.append((percentile(lists[0], 50), *(median_interval(lists[0]) or (None, None))))
    else:
        found += [ratio_interval(lists[0], other) for other in lists[1:]]
    return all(low is not None and (high - low) / 2 <= relative_error * value for value, low, high in found)  # type: ignore[operator]


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
    if len(a) < MIN_SAMPLES:
        return ratio, None, None
    index = np.random.default_rng(seed).integers(0, len(a), (RESAMPLES, len(a)))
    ratios = np.median(a[index], axis=1) / np.median(b[index], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return ratio, float(low), float(high)


def ratio_change(
    before: Sequence[float], after: Sequence[float], confidence: float = 0.95
) -> tuple[float, float | None, float | None]:
    """The factor between ratios of two runs, with its interval.

    The repeats of two runs share nothing, so each of the one meets each of the other. Exact for any number of
    repeats where those of a run are alike; a run that lies elsewhere as a whole is not in the interval.

    Args:
        before: n ratios > 0, one a repeat.
        after: m ratios > 0.
        confidence: of the interval.

    Returns:
        factor (2: `after` is twice as large), low, high; low and high are None where so few repeats can exclude
        nothing.

    Raises:
        ValueError: a list is empty.

    Source: Hodges and Lehmann 1963, on logarithms; interval of the exact Mann-Whitney test.
    """
    if not before or not after:
        raise ValueError(f"ratio_change: at least one ratio on each side, got {len(before)} and {len(after)}")
    logs = np.sort((np.log(np.asarray(after, float))[:, None] - np.log(np.asarray(before, float))).ravel())
    factor = float(np.exp(np.median(logs)))
    # differences left out at each end
    cut = sum(1 - 2 * tail >= confidence for tail in _mann_whitney_tails(len(before), len(after))) - 1
    if cut < 0:
        return factor, None, None
    return factor, float(np.exp(logs[cut])), float(np.exp(logs[-1 - cut]))


def reached_confidence(n: int, m: int) -> float:
    """Of the widest interval that `ratio_change` has of n and m repeats."""
    return 1 - 2 / math.comb(n + m, n)


def repeats_that_tell(confidence: float = 0.95) -> int:
    """Repeats a run with which `ratio_change` has an interval at all."""
    return next(n for n in range(1, 100) if reached_confidence(n, n) >= confidence)


@cache
def _mann_whitney_tails(n: int, m: int) -> list[float]:
    """P(U ≤ u) of equal distributions, for u from 0 to n·m."""
    # coefficients of the Gaussian binomial: orders of n + m values by their number of inversions
    counts = [1] + [0] * (n * m)
    for i in range(1, n + 1):
        for u in range(n * m, m + i - 1, -1):
            counts[u] -= counts[u - m - i]
        for u in range(i, n * m + 1):
            counts[u] += counts[u - i]
    total = math.comb(n + m, n)
    return [below / total for below in accumulate(counts)]


def mean_interval(
    values: Sequence[float], confidence: float = CONFIDENCE, seed: int = 0
) -> tuple[float, float | None, float | None]:
    """Mean of values with its interval; None under 5 values.

    Args:
        values: at least one.
        confidence: of the interval.
        seed: of the resampling.

    Source: percentile bootstrap, Efron and Tibshirani 1993, 10,000 resamples.
    """
    mean = float(np.mean(values))
    if len(values) < MIN_SAMPLES:
        return mean, None, None
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(np.asarray(values, float)[drawn].mean(axis=1), [tail, 100 - tail])
    return mean, float(low), float(high)


def perplexity(nll: float) -> float | None:
    """e to the mean loss of a token in nats; None from 10¹⁸ on, which says no more than that nothing was predicted."""
    return math.exp(nll) if nll < LARGEST_NLL else None


def score_interval(scores: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean of scores with its 95 % interval.

    Args:
        scores: 0…1, at least one.

    Returns:
        mean, low, high: Wilson's interval where all are 0 or 1, else the bootstrap's, None under 5 scores.
    """
    if {*scores} <= {0, 1}:
        return sum(scores) / len(scores), *wilson_interval(sum(scores), len(scores))
    return mean_interval(scores)


def wilson_interval(successes: float, n: int) -> tuple[float, float]:
    """95 % interval of a share.

    Args:
        successes: 0…n.
        n: ≥ 1.

    Returns:
        (low, high), within 0…1.

    Source: Wilson 1927.
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
