"""Percentiles, intervals of ratios and shares. Seeded: the same samples give the same interval."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Difference",
    "average_difference",
    "mcnemar",
    "mean_intervals",
    "median_interval",
    "outliers",
    "paired_difference",
    "percentile",
    "ratio_change",
    "ratio_interval",
    "reached_confidence",
    "repeats_that_tell",
    "score_interval",
    "settled",
    "wilson_interval",
]

RESAMPLES = 10_000
# fewer samples or pairs than this say nothing about spread
MIN_PAIRS = 5
# a difference is called one below this chance of seeing it where there is none
SIGNIFICANT_P = 0.05


class Difference(NamedTuple):
    """A mean difference of pairs with its 95 % interval and McNemar's p; None where there is none."""

    mean: float
    low: float | None
    high: float | None
    p: float | None

    def words(self) -> str:
        """What may be said of it: higher or lower only where interval and p agree."""
        if self.low is None or self.high is None:
            return f"an interval needs {MIN_PAIRS} prompts"
        if self.low <= 0 <= self.high or (self.p is not None and self.p >= SIGNIFICANT_P):
            return "no significant difference"
        return "higher" if self.low > 0 else "lower"


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


def score_interval(scores: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean of scores with its 95 % interval.

    Args:
        scores: 0…1, at least one.

    Returns:
        mean, low, high: Wilson's interval where all are 0 or 1, else the bootstrap's, None under 5 scores.
    """
    mean = sum(scores) / len(scores)
    if {*scores} <= {0, 1}:
        return mean, *wilson_interval(sum(scores), len(scores))
    if len(scores) < MIN_PAIRS:
        return mean, None, None
    return mean, *mean_intervals({"": scores}, [])[1][""][1:]


def paired_difference(scores: Sequence[float], baseline: Sequence[float]) -> Difference:
    """Mean of `scores` minus `baseline`, prompt by prompt.

    Args:
        scores: of a method, at least one.
        baseline: of another on the same prompts, in the same order.

    Returns:
        The difference; its bootstrap interval is None under 5 prompts, its p unless all scores are 0 or 1.

    Raises:
        ValueError: the lengths differ or are 0.
    """
    if len(scores) != len(baseline) or not scores:
        raise ValueError(f"paired_difference: two equally long lists, got {len(scores)} and {len(baseline)}")
    p = mcnemar(scores, baseline) if {*scores, *baseline} <= {0, 1} else None
    return average_difference({"": (scores, baseline)})._replace(p=p)


def average_difference(pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Difference:
    """Plain mean over datasets of the mean paired difference; prompts are resampled within their dataset.

    Args:
        pairs: dataset → scores of a method and of the baseline on the same prompts, at least one.

    Returns:
        The difference without p; its interval is None where a dataset has under 5 prompts.
    """
    groups = {name: [a - b for a, b in zip(*both, strict=True)] for name, both in pairs.items()}
    whole, _ = mean_intervals(groups, list(groups))
    assert whole is not None, "at least one dataset"
    if min(map(len, groups.values())) < MIN_PAIRS:
        return Difference(whole[0], None, None, None)
    return Difference(*whole, None)


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
