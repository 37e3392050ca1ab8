"""Every cell and op against the float64 reference."""

from pcbench.report.page.parts import Block, Section
from pcbench.report.page.tables import Align, Table, identity
from pcbench.report.reading.results import Entry, Results, error_ratio
from pcbench.report.wording import counted, number, scientific

__all__ = ["correctness"]

MAX_ROWS = 500


def correctness(results: Results) -> Section | None:
    """One row a cell and op; None when no op was checked."""
    checked = [e for e in results.entries if e.record.parity_ops]
    if not checked:
        return None
    who = [column for column in identity(results) if not column.last and any(map(column.text, checked))]
    titles: list[tuple[str, Align]] = [(column.title, column.align) for column in who]
    titles += [
        ("op", "text"),
        ("error", "number"),
        ("bound", "number"),
        ("error / bound", "number"),
        ("verdict", "text"),
    ]
    ranked = sorted(checked, key=lambda e: e.parity_ratio or 0.0, reverse=True)
    count = sum(len(e.record.parity_ops or {}) for e in checked)
    shown = checked if count <= MAX_ROWS else ranked[: MAX_ROWS * len(checked) // count]
    rows = [[*(column.text(e) for column in who), *found] for e in shown for found in _ops(e)]
    worst = ranked[0]
    said = f"{counted(count, 'check')} in {counted(len(checked), 'cell')}; the worst is {worst.name}"
    notes = [f"{said} with an error of {number(worst.parity_ratio)} × its bound."]
    if len(rows) < count:
        notes.append(
            f"The cells with the largest errors stand in the second table, {len(rows):,} checks; the data has all."
        )
    return Section(
        "correctness",
        "Correctness",
        "Each op of a cell on the cell's own tensors, in the process that was timed, against the same op in float64. "
        "Error over bound up to 1 passes.",
        [
            Block(
                "",
                notes=notes,
                tables=[_by_op(checked), Table("Errors, one row a cell and op", titles, rows, filterable=True)],
            )
        ],
    )


def _by_op(checked: list[Entry]) -> Table:
    """The worst cell of every op on every backend and in every dtype."""
    found: dict[tuple[str, str, str], list[tuple[float, float, float, Entry]]] = {}
    for entry in checked:
        for op, parity in (entry.record.parity_ops or {}).items():
            err, bound = parity["err"], parity["bound"]
            key = (op, entry.record.backend, entry.record.dtype)
            found.setdefault(key, []).append((error_ratio(err, bound), err, bound, entry))
    titles: list[tuple[str, Align]] = [("op", "text"), ("backend", "text"), ("dtype", "text"), ("cells", "number")]
    titles += [("largest error / bound", "number"), ("its error", "number"), ("its bound", "number"), ("in", "text")]
    rows = []
    for key, checks in found.items():
        ratio, err, bound, entry = max(checks, key=lambda check: check[0])
        rows.append([*key, number(len(checks)), number(ratio), scientific(err), scientific(bound), entry.name])
    return Table("Largest errors, one row an op, backend and dtype", titles, rows)


def _ops(entry: Entry) -> list[list[str]]:
    rows = []
    for op, found in (entry.record.parity_ops or {}).items():
        err, bound = found["err"], found["bound"]
        ratio = error_ratio(err, bound)
        rows.append(
            [op, scientific(err), scientific(bound), number(ratio), "within bound" if ratio <= 1 else "exceeds bound"]
        )
    return rows
