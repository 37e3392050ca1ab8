"""Percentiles, intervals of ratios and shares. Seeded: the same samples give the same interval."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "mcnemar",
    "mean_intervals",
    "median_interval",
    "outliers",
    "percentile",
    "ratio_interval",
    "settled",
    "wilson_interval",
]

RESAMPLES = 10_000
# fewer samples or pairs than this say nothing about spread
MIN_PAIRS = 5


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
    if len(values) < MIN_PAIRS:
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
    if len(a) < MIN_PAIRS:
        return ratio, None, None
    index = np.random.default_rng(seed).integers(0, len(a), (RESAMPLES, len(a)))
    ratios = np.median(a[index], axis=1) / np.median(b[index], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return ratio, float(low), float(high)


def mean_intervals(
    groups: Mapping[str, Sequence[float]], averaged: Sequence[str], seed: int = 0
) -> tuple[tuple[float, float, float] | None, dict[str, tuple[float, float, float]]]:
    """Mean and 95 % interval of every group, and of the plain mean of some of them.

    Values are resampled within their group, so a large group weighs no more than a small one. Given the paired
    differences of two methods, an interval without 0 says that they differ.

    Args:
        groups: name → its values, at least one.
        averaged: the groups of the plain mean.
        seed: of the resampling.

    Returns:
        (mean, low, high) of the plain mean, None where `averaged` is empty; name → the same of each group.

    Source: percentile bootstrap, Efron and Tibshirani 1993, 10,000 resamples.
    """
    rng = np.random.default_rng(seed)
    total: NDArray[np.float64] = np.zeros(RESAMPLES)
    each = {}
    for name, values in groups.items():
        means = np.asarray(values, float)[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
        each[name] = _interval(float(np.mean(values)), means)
        if name in averaged:
            total += means / len(averaged)
    if not averaged:
        return None, each
    return _interval(float(np.mean([each[name][0] for name in averaged])), total), each


def _interval(mean: float, resampled: NDArray[np.float64]) -> tuple[float, float, float]:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return mean, float(low), float(high)


def mcnemar(a: Sequence[float], b: Sequence[float]) -> float:
    """p-value of two methods being right equally often on the same prompts.

    Args:
        a: 0 or 1 a prompt.
        b: the same prompts by another method.

    Returns:
        Two-sided exact p, 1 where no prompt tells them apart.

    Raises:
        ValueError: the lengths differ, or a value is neither 0 nor 1.

    Source: McNemar 1947, the exact binomial form.
    """
    if len(a) != len(b) or not set(a) | set(b) <= {0, 1}:
        raise ValueError(f"mcnemar: two equally long lists of 0 and 1, got {len(a)} and {len(b)} values")
    only_a = sum(x > y for x, y in zip(a, b, strict=True))
    only_b = sum(x < y for x, y in zip(a, b, strict=True))
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / (1 << n))


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
