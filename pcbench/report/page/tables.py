"""Tables as plain text cells; the template draws them, the page's script sorts them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pcbench.report.reading.results import Entry, Results
from pcbench.report.wording import number

__all__ = ["Column", "Table", "filled", "identity", "median_interval", "parity", "table"]

Align = Literal["text", "number", "code", "status", "strip"]


@dataclass(frozen=True)
class Column:
    """A column of entries.

    Args:
        title: with the unit.
        text: of an entry in it.
        align: how it is set.
        last: behind what was measured, for those who want to know exactly.
    """

    title: str
    text: Callable[[Entry], str]
    align: Align = "number"
    last: bool = False


@dataclass(frozen=True)
class Table:
    """What the template draws.

    Args:
        caption: what a row is.
        titles: of the columns, each with how its cells are set.
        rows: text; empty where nothing was measured.
        filterable: whether the page's script adds a field that narrows the rows.
    """

    caption: str
    titles: list[tuple[str, Align]]
    rows: list[list[str]]
    filterable: bool = False


def filled(caption: str, titles: Sequence[tuple[str, Align]], rows: Sequence[list[str]]) -> Table:
    """A long table without the columns in which no row has anything."""
    used = [i for i in range(len(titles)) if any(row[i] for row in rows)]
    return Table(caption, [titles[i] for i in used], [[row[i] for i in used] for row in rows], filterable=True)


def table(caption: str, columns: Sequence[Column], entries: Sequence[Entry], *, filterable: bool = False) -> Table:
    """One row an entry; columns in which no entry has anything are left out."""
    ordered = sorted(columns, key=lambda column: column.last)
    cells = [[column.text(entry) for entry in entries] for column in ordered]
    used = [(column, texts) for column, texts in zip(ordered, cells, strict=True) if any(texts)]
    rows = [list(row) for row in zip(*(texts for _, texts in used), strict=True)]
    return Table(caption, [(column.title, column.align) for column, _ in used], rows, filterable)


def identity(results: Results, *, status: bool = False, exact: bool = False) -> list[Column]:
    """The columns that say which cell a row is: its label and place in front, what else varies behind the numbers.

    Args:
        results: decides what varies.
        status: whether rows that did not end well stand in the table.
        exact: whether method, backend and parameters stand behind the numbers as records hold them.
    """
    columns = [
        Column("cell", lambda e: e.series.label, "text"),
        Column("shape", lambda e: e.record.shape or "", "text"),
        Column("workload", lambda e: "" if e.record.op else e.record.workload, "text", not results.varies("workload")),
        Column("context tokens", lambda e: number(e.record.context_tokens)),
    ]
    if status:
        columns.append(Column("status", lambda e: e.record.status, "status"))
    columns += [Column("run", lambda e: e.run, "text", last=True)] if len(results.runs) > 1 else []
    optional = ("suite", "kind", "model", "device", "dtype", "quantize", "seed")
    columns += [_field(name) for name in optional if results.varies(name)]
    columns.append(Column("op", lambda e: e.record.op or "", "text", last=True))
    if exact:
        columns += [
            Column("method / backend", lambda e: f"{e.record.method}/{e.record.backend}", "text", last=True),
            Column("parameters", lambda e: e.parameters, "text", last=True),
        ]
    return columns


def parity(entry: Entry) -> str:
    """Error over bound, or why there is none."""
    if entry.parity_ratio is not None:
        return number(entry.parity_ratio)
    return "stock code" if entry.stock else "not checked"


def median_interval(entry: Entry) -> str:
    """95 % interval of the median of the times, in ms."""
    r = entry.record
    if not entry.timed or r.ms_ci_low is None or r.ms_ci_high is None:
        return ""
    return f"[{number(r.ms_ci_low)}, {number(r.ms_ci_high)}]"


def _field(name: str) -> Column:
    return Column(name, lambda e: str("" if (value := getattr(e.record, name)) is None else value), "text", last=True)
