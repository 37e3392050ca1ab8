"""What a cell gains and loses beside stock full attention of its group."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from pcbench.report.results import Entry, Results
from pcbench.report.wording import Estimate

__all__ = ["Change", "kv_gain", "mean_change", "memory_gain", "score_change", "score_difference"]

HUNDRED = 100


class Change(NamedTuple):
    """Score minus full attention's, in points of 100.

    Args:
        points: with its 95 % interval.
        paired: whether it was taken prompt by prompt.
        p: McNemar's, where scores are 0 or 1.
    """

    points: Estimate
    paired: bool
    p: float | None


def score_change(results: Results, entry: Entry) -> Change | None:
    """By the record where it has it, else from the two scores; None without a stock cell under the same scorer."""
    r = entry.record
    if entry.score is None or r.backend == "torch":
        return None
    if r.score_vs_full is not None:
        found = Estimate(r.score_vs_full, r.score_vs_full_ci_low, r.score_vs_full_ci_high)
        return Change(_points(found), True, r.score_vs_full_p)
    stock = results.stock_of(entry)
    if stock is None or stock.score is None or stock.record.scorer != r.scorer:
        return None
    return Change(_points(score_difference(entry.score, stock.score)), False, None)


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


def mean_change(changes: Sequence[Estimate]) -> Estimate:
    """Plain mean of independent estimates; without an interval where one has none.

    Source: as `score_difference`: distances to the ends add up in squares.
    """
    n = len(changes)
    value = sum(change.value for change in changes) / n
    below = [change.value - change.low for change in changes if change.low is not None]
    above = [change.high - change.value for change in changes if change.high is not None]
    if len(below) < n or len(above) < n:
        return Estimate(value, None, None)
    return Estimate(value, value - math.hypot(*below) / n, value + math.hypot(*above) / n)


def memory_gain(results: Results, entry: Entry) -> Estimate | None:
    """How many times smaller the peak is than full attention's; one pass each, no interval."""
    stock = results.stock_of(entry)
    return _gain(stock.record.peak_bytes, entry.record.peak_bytes) if stock and entry.usable else None


def kv_gain(results: Results, entry: Entry) -> Estimate | None:
    """How many times smaller the KV cache is than full attention's: bytes counted, exact."""
    stock = results.stock_of(entry)
    return _gain(stock.record.kv_bytes, entry.record.kv_bytes) if stock and entry.usable else None


def _gain(stock: int | None, own: int | None) -> Estimate | None:
    return Estimate(stock / own, None, None) if stock and own else None


def _points(share: Estimate) -> Estimate:
    return Estimate(*(None if x is None else x * HUNDRED for x in share))  # type: ignore[arg-type]
