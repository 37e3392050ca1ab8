"""What a cell loses on a text beside stock full attention of its group."""

from collections.abc import Sequence

from pcbench.differences import Difference
from pcbench.report.reading.results import Entry
from pcbench.report.wording import signed

__all__ = ["least_loss", "loss_change", "nats_span"]


def loss_change(entry: Entry) -> Difference | None:
    """Nats a token more than full attention, window by window; None where there is nothing to compare."""
    r = entry.record
    if entry.loss is None or r.is_full or r.nll_vs_full is None:
        return None
    return Difference(r.nll_vs_full, r.nll_vs_full_ci_low, r.nll_vs_full_ci_high, None, r.nll_vs_full_pairs)


def nats_span(change: Difference) -> str:
    """`[−0.0012, +0.0310]`; empty without an interval."""
    if change.low is None or change.high is None:
        return ""
    return f"[{signed(change.low, 4)}, {signed(change.high, 4)}]"


def least_loss(entries: Sequence[Entry]) -> tuple[Entry, Difference, int] | None:
    """At the longest length that has changes the entry with the least, its change, and of how many."""
    changes = {e: change for e in entries if (change := loss_change(e)) is not None}
    if not changes:
        return None
    longest = max(e.record.context_tokens or 0 for e in changes)
    there = {e: change for e, change in changes.items() if e.record.context_tokens == longest}
    best = min(there, key=lambda e: there[e].mean)
    return best, there[best], len(there)
