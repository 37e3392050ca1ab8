"""Where every number comes from and how to take it again."""

import json
from collections.abc import Iterator
from typing import Any

from pcbench.report.page import Block, Section
from pcbench.report.results import Entry, Results
from pcbench.report.tables import Align, Column, Table, identity, table
from pcbench.report.wording import number

__all__ = ["provenance"]

# in the order of the table; what is not here follows by name
FIRST = ("run", "suite", "created_at", "command", "environment", "builds", "model", "settings", "schema")
# a list of keys: its length says enough
COUNTED = "cells"


def provenance(results: Results) -> Section | None:
    """Commands, environment and settings of every run."""
    columns = [
        *identity(results, status=True),
        Column("command that measures it again", lambda e: e.record.repro_command or "", "code"),
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
        "The records and manifests are embedded in this file: pcbench report rebuilds the page from it.",
        [Block("Runs", tables=[_manifests(results)]), Block("Cells", tables=tables)],
    )


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


def _manifests(results: Results) -> Table:
    """One column a run; rows in which runs differ are marked."""
    flat = [dict(_rows(run.manifest)) for run in results.runs]
    keys = sorted({key for rows in flat for key in rows}, key=_place)
    titles: list[tuple[str, Align]] = [("", "text"), *((run.name, "text") for run in results.runs)]
    if len(flat) == 1:
        return Table("Manifest", titles, [[key, flat[0][key]] for key in keys])
    titles.append(("differs", "text"))
    rows = []
    for key in keys:
        values = [found.get(key, "") for found in flat]
        rows.append([key, *values, "differs" if len(set(values)) > 1 else ""])
    return Table("Manifests side by side", titles, rows)


def _place(key: str) -> tuple[int, str]:
    head = key.split(".")[0]
    return (FIRST.index(head) if head in FIRST else len(FIRST), key)


def _rows(manifest: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in manifest.items():
        if isinstance(value, dict):
            yield from _rows(value, f"{prefix}{key}.")
        elif key == COUNTED and not prefix:
            yield "planned cells", f"{len(value):,}"
        elif isinstance(value, str):
            yield prefix + key, value
        else:
            yield prefix + key, json.dumps(value, ensure_ascii=False)
