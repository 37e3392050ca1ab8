"""Manifests as tables: settings, environment and packages of every run."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pcbench.report.page.tables import Align, Table
from pcbench.report.reading.runs import Run

__all__ = ["facts", "packages", "side_by_side"]

# in the order of the table; what is not here follows by name
FIRST = ("run", "suite", "created_at", "command", "environment", "builds", "model", "settings", "schema")
# lists with an entry a cell
PER_CELL = {"cells": "planned cells", "prompts": "prompts a cell", "new_tokens": "tokens reserved for an answer"}
PACKAGES = "environment.packages."
# what differs between any two runs
ALWAYS = ("run", "created_at", "starts", *PER_CELL.values())


def side_by_side(runs: Sequence[Run], *, differing: bool = False) -> Table:
    """One column a run, without packages; rows in which runs differ are marked.

    Args:
        runs: at least one.
        differing: whether only those rows are wanted, packages among them.
    """
    flat = [dict(_rows(run.manifest)) for run in runs]
    keys = sorted({key for rows in flat for key in rows}, key=_place)
    titles: list[tuple[str, Align]] = [("", "text"), *((run.name, "text") for run in runs)]
    if differing:
        rows = [[key, *(found.get(key, "") for found in flat)] for key in keys if key not in ALWAYS]
        return Table("What differs between the runs", titles, [row for row in rows if len(set(row[1:])) > 1])
    keys = [key for key in keys if not key.startswith(PACKAGES)]
    if len(flat) == 1:
        return Table("Manifest", titles, [[key, flat[0][key]] for key in keys])
    marked = []
    for key in keys:
        values = [found.get(key, "") for found in flat]
        marked.append([key, *values, "differs" if len(set(values)) > 1 else ""])
    return Table("Manifests side by side", [*titles, ("differs", "text")], marked)


def packages(runs: Sequence[Run]) -> Table | None:
    """Versions of the installed packages that manifests name."""
    flat = [{k.removeprefix(PACKAGES): v for k, v in _rows(run.manifest) if k.startswith(PACKAGES)} for run in runs]
    names = sorted({name for found in flat for name in found})
    if not names:
        return None
    titles: list[tuple[str, Align]] = [("package", "text"), *((run.name, "text") for run in runs)]
    return Table("Packages", titles, [[name, *(found.get(name, "") for found in flat)] for name in names])


def _place(key: str) -> tuple[int, str]:
    head = key.split(".")[0]
    return (FIRST.index(head) if head in FIRST else len(FIRST), key)


def facts(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every value below a path of a manifest with its own path, dots between."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from facts(f"{path}.{key}" if path else key, inner)
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _rows(manifest: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in manifest.items():
        if key in PER_CELL and isinstance(value, list):
            yield PER_CELL[key], _shortly(key, value)
        elif key == "shard" and isinstance(value, dict):
            yield key, f"{value.get('number')}/{value.get('count')}"
        else:
            yield from facts(key, value)


def _shortly(key: str, values: list[Any]) -> str:
    """How many cells; each value once."""
    if key == "cells":
        return f"{len(values):,}"
    return ", ".join(dict.fromkeys(json.dumps(value, ensure_ascii=False) for value in values))
