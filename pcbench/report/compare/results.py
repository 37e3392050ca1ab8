"""Memory and endings of two runs against each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from pcbench.report.compare.runs import ComparedRun, shared_cells
from pcbench.types import Record

__all__ = ["Ending", "MemoryChange", "endings", "memory_changes"]

MEMORY = ("peak_bytes", "reserved_bytes", "driver_bytes", "kv_bytes")
FITTING = ("chunks_that_fit", "longest_context_tokens", "fit_ratio")


@dataclass(frozen=True, kw_only=True)
class MemoryChange:
    """A number of bytes, or of what fits into them, that differs between the baseline run and another run.

    Args:
        overlap: whether it is a peak whose passes in both runs overlap, so that it cannot be told from none.
    """

    run: str
    cell: str
    name: str
    what: str
    before: float
    after: float
    overlap: bool


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a cell ended in each run, where not alike: a status with its reason, "not finished" or "not in the run"."""

    cell: str
    name: str
    endings: dict[str, str]


def memory_changes(runs: Sequence[ComparedRun]) -> list[MemoryChange]:
    """Every number of bytes or of what fits that is not the same, the largest growth first."""
    found = [
        MemoryChange(
            run=other.name,
            cell=cell,
            name=runs[0].names[cell],
            what=what,
            before=a,
            after=b,
            overlap=what == "peak_bytes" and _passes_overlap(before, after),
        )
        for other in runs[1:]
        for cell in shared_cells(runs[0], other)
        for before, after in [(runs[0].records[cell], other.records[cell])]
        for what in (*MEMORY, *FITTING)
        for a, b in [(getattr(before, what), getattr(after, what))]
        if a is not None and b is not None and a != b
    ]
    return sorted(found, key=_growth, reverse=True)


def _passes_overlap(before: Record, after: Record) -> bool:
    a, b = (record.peak_samples_bytes or [record.peak_bytes or 0] for record in (before, after))
    return min(a) <= max(b) and min(b) <= max(a)


def _growth(change: MemoryChange) -> float:
    """How much worse: more bytes, or less that fits into them."""
    a, b = (change.after, change.before) if change.what in FITTING else (change.before, change.after)
    return b / a if a else float("inf")


def endings(runs: Sequence[ComparedRun]) -> list[Ending]:
    """Cells that did not end alike in every run, those first that a later run lost."""
    names = {cell: name for run in reversed(runs) for cell, name in run.names.items()}
    found = []
    for cell, name in names.items():
        ends = {run.name: _ending(cell, run) for run in runs}
        if len({text.partition(":")[0] for text in ends.values()}) > 1:
            found.append(Ending(cell=cell, name=name, endings=ends))
    return sorted(found, key=lambda ending: ending.endings[runs[0].name] != "ok")


def _ending(cell: str, run: ComparedRun) -> str:
    record = run.records.get(cell)
    if record is None:
        return "not finished" if cell in run.manifest.get("cells", ()) else "not in the run"
    return record.status if record.status == "ok" else f"{record.status}: {record.reason}"
