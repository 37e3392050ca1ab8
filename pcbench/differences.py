"""Differences of scores on the same prompts, and what may be said of them."""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple

from pcbench.statistics import CONFIDENCE, mean_interval

__all__ = [
    "Difference",
    "Verdict",
    "average_difference",
    "loss_difference",
    "mcnemar",
    "mean_of_means",
    "paired_difference",
    "paired_share_interval",
    "pairs_that_tell",
]

# what losses of a window differ by at least
LEAST_NATS = 1e-4

Verdict = Literal["higher", "lower", "no significant difference", "cannot tell"]


class Difference(NamedTuple):
    """A mean difference of pairs.

    Args:
        mean: in any unit.
        low, high: its interval; None where there is none.
        p: McNemar's, None where not all scores are 0 or 1.
        n: pairs behind it; of an average, those of its smallest dataset; None where nobody knows.
        average: whether it is a mean over datasets.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    n: int | None
    average: bool = False

    def verdict(self, confidence: float = CONFIDENCE) -> Verdict:
        """What may be said of it: the one judgement of differences of scores.

        Under `pairs_that_tell` no outcome is significant, so that "no significant difference" says nothing; from there
        on a difference is one where the interval and p agree.

        Args:
            confidence: of the interval and of the test.
        """
        if self.low is None or self.high is None or self.n is None or self.n < pairs_that_tell(confidence):
            return "cannot tell"
        if self.low <= 0 <= self.high or (self.p is not None and self.p > 1 - confidence):
            return "no significant difference"
        return "higher" if self.low > 0 else "lower"

    def words(self, confidence: float = CONFIDENCE) -> str:
        """The verdict and, where it cannot tell, how many pairs would."""
        said, enough = self.verdict(confidence), pairs_that_tell(confidence)
        if said == "cannot tell" and (self.n is None or self.n < enough):
            return f"{said}, needs n ≥ {enough}{' each' if self.average else ''}"
        return said


def pairs_that_tell(confidence: float = CONFIDENCE) -> int:
    """The fewest pairs of which some outcome is significant: all of them differ to one side, 2 · 0.5ⁿ.

    Source: the exact sign test, of which McNemar's is the one for right or wrong.
    """
    return math.ceil(1 - math.log2(1 - confidence))


def mean_of_means(
    intervals: Sequence[tuple[float, float | None, float | None]],
) -> tuple[float, float | None, float | None]:
    """Plain mean of independent estimates, each with its interval; without one where one of them has none.

    Args:
        intervals: value, low, high; at least one.

    Source: method of variance estimates recovery, Zou and Donner 2008: distances to the ends add up in squares.
    """
    n = len(intervals)
    mean = sum(value for value, _, _ in intervals) / n
    below = [value - low for value, low, _ in intervals if low is not None]
    above = [high - value for value, _, high in intervals if high is not None]
    if len(below) < n or len(above) < n:
        return mean, None, None
    return mean, mean - math.hypot(*below) / n, mean + math.hypot(*above) / n


def paired_difference(scores: Sequence[float], baseline: Sequence[float], confidence: float = CONFIDENCE) -> Difference:
    """Mean of `scores` minus `baseline`, prompt by prompt.

    Args:
        scores: 0…1 of a method, at least one.
        baseline: of another on the same prompts, in the same order.
        confidence: of the interval.

    Returns:
        The difference. Its interval is Tango's where all scores are 0 or 1, and where no prompt differs, which a
        bootstrap takes for certain; else the bootstrap's, None under 5 prompts. p is there where all are 0 or 1.

    Raises:
        ValueError: the lengths differ or are 0.
    """
    n = len(scores)
    if n != len(baseline) or not scores:
        raise ValueError(f"paired_difference: two equally long lists, got {n} and {len(baseline)}")
    differences = [a - b for a, b in zip(scores, baseline, strict=True)]
    right_or_wrong = {*scores, *baseline} <= {0, 1}
    p = mcnemar(scores, baseline) if right_or_wrong else None
    if right_or_wrong or not any(differences):
        more, less = sum(x > 0 for x in differences), sum(x < 0 for x in differences)
        return Difference((more - less) / n, *paired_share_interval(more, less, n, confidence), p, n)
    return Difference(*mean_interval(differences, confidence), None, n)


def loss_difference(losses: Sequence[float], baseline: Sequence[float], confidence: float = CONFIDENCE) -> Difference:
    """Mean of `losses` minus `baseline`, window by window, in nats a token.

    A pair that differs by less than 0.0001 nats, 0.01 % of perplexity, does not differ: so do methods that compute the
    same in another order.

    Args:
        losses: at least one.
        baseline: as many, in the same order.
        confidence: of the interval, which is the bootstrap's; None under 5 pairs.
    """
    differences = [a - b if abs(a - b) >= LEAST_NATS else 0.0 for a, b in zip(losses, baseline, strict=True)]
    return Difference(*mean_interval(differences, confidence), None, len(differences))


def average_difference(pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Difference:
    """Plain mean over datasets of the mean paired difference.

    Args:
        pairs: dataset → scores of a method and of the baseline on the same prompts, at least one.

    Returns:
        The difference; its interval is None where a dataset has none, its p is of all pairs together, where all
        scores are 0 or 1, its n that of the smallest dataset.
    """
    each = [paired_difference(*both) for both in pairs.values()]
    ours, theirs = ([x for both in pairs.values() for x in both[side]] for side in (0, 1))
    p = mcnemar(ours, theirs) if {*ours, *theirs} <= {0, 1} else None
    mean, low, high = mean_of_means([found[:3] for found in each])
    if low is not None and high is not None:
        # rounding may leave the range of a difference
        low, high = max(-1.0, low), min(1.0, high)
    return Difference(mean, low, high, p, min(len(both[0]) for both in pairs.values()), len(pairs) > 1)


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


def paired_share_interval(more: int, less: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval of the difference of two shares of the same prompts; it has a width where no prompt differs, too.

    Args:
        more: prompts that only the first side has right.
        less: prompts that only the second side has right.
        n: prompts, ≥ 1.
        confidence: of the interval.

    Returns:
        (low, high) of (more − less) / n, within −1…1.

    Source: Tango 1998, the score interval for paired shares.
    """
    z, estimate = NormalDist().inv_cdf((1 + confidence) / 2), (more - less) / n

    def end(sign: int) -> float:
        """Where the score statistic passes z, by bisection from the estimate outwards."""
        inside, outside = estimate, float(sign)
        for _ in range(60):
            middle = (inside + outside) / 2
            if abs(_tango_score(more, less, n, middle)) <= z:
                inside = middle
            else:
                outside = middle
        return inside

    return end(-1), end(1)


def _tango_score(more: int, less: int, n: int, difference: float) -> float:
    """How many standard deviations `more` − `less` lies from what a true difference would give."""
    off = more - less - n * difference
    b = (2 * n - more + less) * difference - more - less
    c = -less * difference * (1 - difference)
    # the likeliest share of prompts that only the second side has right
    less_share = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    variance = n * (2 * less_share + difference * (1 - difference))
    return math.copysign(math.inf, off) if variance <= 0 and off else 0.0 if not off else off / math.sqrt(variance)
