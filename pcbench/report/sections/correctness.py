"""Every cell and op against the float64 reference."""

from pcbench.report.page import Block, Section
from pcbench.report.results import Entry, Results, error_ratio
from pcbench.report.tables import Align, Table, identity
from pcbench.report.wording import counted, number, scientific

__all__ = ["correctness"]


def correctness(results: Results) -> Section | None:
    """One row a cell and op; None when no op was checked."""
    checked = [e for e in results.entries if e.record.parity_ops]
    if not checked:
        return None
    who = [column for column in identity(results) if any(column.text(e) for e in checked)]
    titles: list[tuple[str, Align]] = [(column.title, column.align) for column in who]
    titles += [
        ("op", "text"),
        ("error", "number"),
        ("bound", "number"),
        ("error / bound", "number"),
        ("verdict", "text"),
    ]
    rows = [[*(column.text(e) for column in who), *found] for e in checked for found in _ops(e)]
    worst = max(checked, key=lambda e: e.parity_ratio or 0.0)
    said = f"{counted(len(rows), 'check')} in {counted(len(checked), 'cell')}; the worst is {worst.name}"
    notes = [f"{said} with an error of {number(worst.parity_ratio)} × its bound."]
    return Section(
        "correctness",
        "Correctness",
        "Each op of a cell on the cell's own tensors, in the process that was timed, against the same op in float64. "
        "Error over bound up to 1 passes.",
        [Block("", notes=notes, tables=[Table("Errors, one row a cell and op", titles, rows, filterable=True)])],
    )


def _ops(entry: Entry) -> list[list[str]]:
    rows = []
    for op, found in (entry.record.parity_ops or {}).items():
        err, bound = found["err"], found["bound"]
        ratio = error_ratio(err, bound)
        rows.append(
            [op, scientific(err), scientific(bound), number(ratio), "within bound" if ratio <= 1 else "exceeds bound"]
        )
    return rows
