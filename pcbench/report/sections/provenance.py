"""Where every number comes from and how to take it again."""

import json

from pcbench.report.page.manifests import packages, side_by_side
from pcbench.report.page.parts import Block, Section
from pcbench.report.page.tables import Align, Column, Table, identity, table
from pcbench.report.reading.results import Entry, Results
from pcbench.report.wording import number

__all__ = ["provenance"]


def provenance(results: Results) -> Section | None:
    """Commands, environment and settings of every run."""
    columns = [
        *identity(results),
        Column("command that measures it again", lambda e: e.record.repro_command or "", "code"),
        *([Column("attention of chunks", _attention, "text")] if any(map(_attention, results.entries)) else []),
        Column("commit", _commit, "text"),
        Column("started", lambda e: e.record.started_at or "", "text"),
        Column("cell", lambda e: e.record.cell, "code"),
    ]
    tables = []
    if results.entries:
        tables = [_methods(results), table("Commands, one row a cell", columns, results.entries, filterable=True)]
    return Section(
        "provenance",
        "Provenance",
        "What ran, on what, and the command that measures a row again (a click selects it). "
        "Records and manifests are embedded in this file: pcbench report rebuilds the page from it, "
        "and the buttons save them as tables.",
        [
            Block("Runs", tables=[t for t in (side_by_side(results.runs), packages(results.runs)) if t is not None]),
            Block("Cells", tables=tables),
        ],
    )


def _attention(entry: Entry) -> str:
    """By what it was computed, and the times that chose it."""
    ms = entry.record.attention_ms or {}
    times = ", ".join(f"{name} {number(value)} ms" for name, value in ms.items())
    return (entry.record.attention_kernel or "") + (f" (a call: {times})" if times else "")


def _commit(entry: Entry) -> str:
    record = entry.record
    if record.commit is None:
        return "unknown"
    return record.commit[:12] + (" with changes" if record.dirty else "")


def _methods(results: Results) -> Table:
    """Each method's resolved parameters once."""
    found: dict[tuple[str, str, str], int] = {}
    for entry in results.entries:
        config = json.dumps(entry.record.method_config, ensure_ascii=False)
        key = (entry.record.method, entry.parameters, config)
        found[key] = found.get(key, 0) + 1
    titles: list[tuple[str, Align]] = [("method", "text"), ("what differs", "text"), ("all parameters", "code")]
    return Table("Methods", [*titles, ("cells", "number")], [[*key, number(count)] for key, count in found.items()])
