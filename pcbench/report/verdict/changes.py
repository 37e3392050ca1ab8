"""What a cell gains and loses beside stock full attention of its group."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from pcbench.differences import Difference, mean_of_means, paired_share_interval
from pcbench.report.reading.results import RESTLESS, Entry, Results
from pcbench.report.wording import Estimate, claim, percent

__all__ = [
    "MIN_PEAKS",
    "Change",
    "kv_gain",
    "mean_change",
    "memory_claim",
    "memory_gain",
    "score_change",
    "score_difference",
    "speed_claim",
]

HUNDRED = 100
# passes of a peak that show how far it scatters
MIN_PEAKS = 3


class Change(NamedTuple):
    """Score minus full attention's, in points of 100.

    Args:
        difference: in points, with its 95 % interval.
        paired: whether it was taken prompt by prompt.
    """

    difference: Difference
    paired: bool


def score_change(results: Results, entry: Entry) -> Change | None:
    """By the record where it has it, else from the two scores; None without a stock cell under the same scorer."""
    r = entry.record
    if entry.score is None or r.is_full:
        return None
    if r.score_vs_full is not None:
        found, n = Estimate(r.score_vs_full, r.score_vs_full_ci_low, r.score_vs_full_ci_high), _pairs(entry)
        if found.low == found.high and found.value in (-1, 0, 1) and n:
            # a bootstrap of equal differences, in older records, has no width
            found = Estimate(found.value, *paired_share_interval(n * (found.value > 0), n * (found.value < 0), n))
        return Change(_points(found, r.score_vs_full_p, n)._replace(average=entry.average), True)
    stock = results.stock_of(entry)
    if stock is None or stock.score is None or stock.record.scorer != r.scorer:
        return None
    prompts = min(r.n_samples or 0, stock.record.n_samples or 0)
    return Change(
        _points(score_difference(entry.score, stock.score), None, prompts)._replace(average=entry.average), False
    )


def _pairs(entry: Entry) -> int | None:
    """Of records before schema fields for it, as many as there can be."""
    r = entry.record
    if r.score_vs_full_pairs is not None or r.n_samples is None:
        return r.score_vs_full_pairs
    return r.n_samples // ((r.task or "").count(",") + 1) if entry.average else r.n_samples


def score_difference(a: Estimate, b: Estimate) -> Estimate:
    """a − b of two scores with its 95 % interval from theirs.

    The two are treated as independent; where both saw the same prompts the interval is on the wide side.

    Source: method of variance estimates recovery, Zou and Donner 2008 (Newcombe 1998 for two shares).
    """
    difference = a.value - b.value
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Estimate(difference, None, None)
    low = difference - math.hypot(a.value - a.low, b.high - b.value)
    high = difference + math.hypot(a.high - a.value, b.value - b.low)
    return Estimate(difference, low, high)


def mean_change(changes: Sequence[Difference]) -> Difference:
    """Plain mean of changes of different prompts, of the pairs that the one with the fewest has."""
    if len(changes) == 1:
        return changes[0]
    pairs = [change.n for change in changes if change.n is not None]
    n = min(pairs) if len(pairs) == len(changes) else None
    return Difference(*mean_of_means([change[:3] for change in changes]), None, n, average=True)


def speed_claim(results: Results, entry: Entry, found: Estimate) -> str:
    """What a speed-up allows to say: nothing where its repeats, or those of what it is a ratio to, scatter too far."""
    noise = results.noise(entry)
    if noise > RESTLESS:
        return f"cannot tell, repeats scatter by {percent(noise)} %"
    return claim(found, 1.0, "faster", "slower")


def memory_gain(results: Results, entry: Entry) -> Estimate | None:
    """How many times smaller the peak is than full attention's; from the least to the most that the passes allow."""
    stock = results.stock_of(entry)
    gain = _gain(stock.record.peak_bytes, entry.record.peak_bytes) if stock and entry.usable else None
    if gain is None or stock is None:
        return None
    theirs, ours = stock.record.peak_samples_bytes, entry.record.peak_samples_bytes
    if not theirs or not ours or min(len(theirs), len(ours)) < MIN_PEAKS or not all(ours):
        return gain
    return Estimate(gain.value, min(theirs) / max(ours), max(theirs) / min(ours))


def memory_claim(gain: Estimate) -> str:
    """What the passes allow to say of two peaks: a difference only where all of one lie beyond all of the other."""
    if gain.low is None or gain.high is None:
        return f"cannot tell, needs n ≥ {MIN_PEAKS}"
    if gain.low <= 1 <= gain.high:
        return "cannot tell, the passes overlap"
    return "lower peak" if gain.low > 1 else "higher peak"


def kv_gain(results: Results, entry: Entry) -> Estimate | None:
    """How many times smaller the KV cache of the prompt is than full attention's: bytes counted, exact."""
    stock = results.stock_of(entry)
    return _gain(stock.record.compared_kv_bytes, entry.record.compared_kv_bytes) if stock and entry.usable else None


def _gain(stock: int | None, own: int | None) -> Estimate | None:
    return Estimate(stock / own, None, None) if stock and own else None


def _points(share: Estimate, p: float | None, n: int | None) -> Difference:
    value, low, high = (None if x is None else x * HUNDRED for x in share)
    return Difference(value or 0.0, low, high, p, n)
