"""What a run must hold before its numbers are believed, as pass or fail."""

from collections.abc import Sequence
from dataclasses import dataclass

from pcbench.report.changes import score_change
from pcbench.report.results import Entry, Results
from pcbench.report.runs import Run
from pcbench.report.wording import claim, counted

__all__ = ["Gate", "gates"]

FAILED = ("error", "timeout", "data_missing")


@dataclass(frozen=True)
class Gate:
    """One check of a run.

    Args:
        name: what is checked.
        passed: None where there was nothing to check.
        text: what was found.
        evidence: anchor of the section behind it.
    """

    name: str
    passed: bool | None
    text: str
    evidence: str


def gates(results: Results, run: Run) -> list[Gate]:
    """Parity, completeness, and accuracy beside speed."""
    entries = results.of(run)
    speedy = [e for e in entries if e.vs_full is not None]
    return [_parity(entries), _complete(run, entries), *([_accuracy(results, speedy)] if speedy else [])]


def _parity(entries: Sequence[Entry]) -> Gate:
    wrong = [e for e in entries if e.record.status == "parity_failed" or (e.record.status == "ok" and not e.checked)]
    checked = [e for e in entries if e.record.backend != "torch" and e.usable]
    if wrong:
        return Gate("parity", False, f"{counted(len(wrong), 'cell')} without a passed check", "trust")
    if not checked:
        return Gate("parity", None, "nothing to check", "trust")
    return Gate("parity", True, f"{counted(len(checked), 'cell')} within bounds", "correctness")


def _complete(run: Run, entries: Sequence[Entry]) -> Gate:
    """Out of memory and unsupported are results."""
    failed = [e for e in entries if e.record.status in FAILED]
    partial = [e for e in entries if e.record.skipped_records and e not in failed]
    if run.missing or failed or partial:
        text = f"{counted(run.missing, 'cell')} missing, {len(failed):,} failed"
        text += f", {len(partial):,} without some of their records" if partial else ""
        return Gate("complete", False, text, "trust")
    return Gate("complete", True, f"{counted(len(run.planned), 'cell')}, none failed", "trust")


def _accuracy(results: Results, entries: Sequence[Entry]) -> Gate:
    """A speed-up counts where the score beside it is not significantly lower."""
    changes = [score_change(results, e) for e in entries]
    known = [change.points for change in changes if change is not None and change.points.low is not None]
    lower = [points for points in known if claim(points, 0.0, "higher", "lower") == "lower"]
    if not known:
        return Gate("accuracy", None, "no timed cell was scored beside full attention", "trust")
    if lower:
        text = f"{len(lower):,} of {counted(len(known), 'timed cell')} significantly below full attention's score"
        return Gate("accuracy", False, text, "accuracy")
    text = f"{counted(len(known), 'timed cell')}, none significantly below full attention's score"
    return Gate("accuracy", True, text, "accuracy")
