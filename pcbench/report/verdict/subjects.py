"""What a run's verdict is about: the cell of its headline numbers, and the mean change of scores of each method."""

from collections.abc import Sequence
from dataclasses import dataclass

from pcbench.differences import Difference
from pcbench.report.reading.results import Entry, Results, Series
from pcbench.report.verdict.changes import mean_change, memory_gain, score_change

__all__ = ["Means", "Place", "at", "mean_changes", "smallest_peak", "subject_of"]

# panel and length
Place = tuple[str, int]


@dataclass(frozen=True)
class Means:
    """Score minus full attention's, in points.

    Args:
        means: of each series, over the same places.
        places: workloads and lengths behind them.
        left_out: those that not all series and full attention have a score of.
        averages: the cells whose means they are, where the records hold averages of data sets.
    """

    means: dict[Series, Difference]
    places: list[Place]
    left_out: list[Place]
    averages: list[Entry]

    @property
    def best(self) -> Series:
        """Of several as good, the first."""
        return max(self.means, key=lambda series: self.means[series].mean)


def subject_of(results: Results, entries: Sequence[Entry]) -> Entry | None:
    """The cell the verdict is about: the fastest against full attention at the longest length that has one."""
    fast = [e for e in entries if e.vs_full is not None]
    if fast:
        longest = max(e.record.context_tokens or 0 for e in fast)
        there = [e for e in fast if (e.record.context_tokens or 0) == longest]
        return max(there, key=lambda e: e.vs_full.value if e.vs_full else 0.0)
    other = [e for e in entries if e.usable and not e.record.is_full and results.stock_of(e) is not None]
    return max(other, key=lambda e: e.record.context_tokens or 0, default=None)


def smallest_peak(results: Results, entries: Sequence[Entry]) -> tuple[Entry, int] | None:
    """The cell with the smallest peak against full attention's at the longest length that has one, of how many methods.

    Without times, the memory of a verdict is that of this cell.
    """
    gains = {e: gain.value for e in entries if not e.record.is_full and (gain := memory_gain(results, e)) is not None}
    if not gains:
        return None
    longest = max(e.record.context_tokens or 0 for e in gains)
    there = [e for e in gains if (e.record.context_tokens or 0) == longest]
    return max(there, key=lambda e: gains[e]), len({e.record.method for e in there})


def mean_changes(results: Results, entries: Sequence[Entry]) -> Means | None:
    """The averages of data sets where there are some, else means over what all methods share; None without any."""
    changes: dict[Series, dict[Place, Difference]] = {}
    averages = [e for e in entries if e.average and score_change(results, e) is not None]
    for entry in averages or entries:
        change = score_change(results, entry)
        if change is not None:
            changes.setdefault(entry.series, {})[_place(entry)] = change.difference
    places = set.intersection(*(set(found) for found in changes.values())) if changes else set()
    if not places:
        return None
    means = {series: mean_change([found[place] for place in sorted(places)]) for series, found in changes.items()}
    every = places if averages else {_place(e) for e in entries}
    return Means(means, sorted(places), sorted(every - places), averages)


def at(entry: Entry) -> str:
    """` at 8,192 tokens`; empty without a length."""
    tokens = entry.record.context_tokens
    return "" if tokens is None else f" at {tokens:,} tokens"


def _place(entry: Entry) -> Place:
    return entry.panel, entry.record.context_tokens or 0
