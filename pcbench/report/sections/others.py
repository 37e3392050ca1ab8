"""Cells of kinds that have no sections of their own: how they ended, parity, and times where there are."""

from pcbench.report.page.parts import Block, Section
from pcbench.report.page.rows import rows_block
from pcbench.report.page.tables import Column, identity, median_interval, parity, table
from pcbench.report.reading.results import Entry, Results
from pcbench.report.wording import Estimate, counted, milliseconds, number

__all__ = ["others"]


def others(results: Results) -> Section | None:
    """A figure and a table a kind; None where every kind has sections of its own."""
    kinds: dict[str, list[Entry]] = {}
    for entry in results.shown_in("others"):
        kinds.setdefault(entry.record.kind, []).append(entry)
    if not kinds:
        return None
    return Section(
        "others",
        "Other measurements",
        "Cells of a kind without sections of its own. Times are medians of the repeats with a bar from the 10th to the "
        "90th percentile; all that the records hold stands in the table of every cell.",
        [block for i, (kind, entries) in enumerate(kinds.items()) for block in _blocks(results, f"{i}", kind, entries)],
    )


def _blocks(results: Results, number_: str, kind: str, entries: list[Entry]) -> list[Block]:
    timed = [e for e in entries if e.timed]
    title = f"{kind}: {counted(len(entries), 'cell')}"
    figures = [rows_block(f"others{number_}", timed, _time, _say, "time, ms", title=title)] if timed else []
    columns = [
        *identity(results, status=True),
        Column("parity (error / bound)", lambda e: parity(e) if e.record.status == "ok" else ""),
        Column("p50 (ms)", lambda e: number(e.record.ms_p50) if e.timed else ""),
        Column("p10 (ms)", lambda e: number(e.record.ms_p10) if e.timed else ""),
        Column("p90 (ms)", lambda e: number(e.record.ms_p90) if e.timed else ""),
        Column("p50, 95 %", median_interval, "text"),
        Column("repeats", lambda e: number(e.record.repeats) if e.timed else ""),
        Column("reason", lambda e: e.record.reason or "", "text"),
    ]
    rows = table(f"Cells of kind {kind}, one row a cell", columns, entries, filterable=True)
    return [*figures, Block("" if figures else title, tables=[rows])]


def _time(entry: Entry) -> Estimate:
    r = entry.record
    return Estimate(r.ms_p50 or 0.0, r.ms_p10, r.ms_p90)


def _say(entry: Entry) -> str:
    return milliseconds(entry.record.ms_p50 or 0.0)
