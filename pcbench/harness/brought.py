"""What of a run is not pcbench's own: whose it is, and what its source holds."""

from collections.abc import Iterable, Iterator
from typing import Any

from pcbench import registry
from pcbench.errors import ConfigError
from pcbench.extensions import source_sha256
from pcbench.names import Places
from pcbench.tasks import load_task
from pcbench.types import Cell

__all__ = ["Brought", "brought", "check_brought"]

# `method NAME` → `package`, with its version, or the place; and `sha256` of its source
Brought = dict[str, dict[str, str]]


def brought(kind: str, cells: Iterable[Cell]) -> Brought:
    """Kind of measurement, methods, generators and scorers of a run that are not pcbench's.

    Args:
        kind: of the suite; cells: of the run.

    Raises:
        ConfigError: one cannot be imported, or has changed since it was.
    """
    found: Brought = {}
    for table, name in _names(kind, cells):
        what, place = table.group[:-1], table.get(name, "pcbench.")
        where = f"{what} {name}"
        if where not in found and not place.startswith("pcbench."):
            sha256 = source_sha256(place, table.load(what, name, where), where)
            found[where] = {"package": table.package(name) or place, "sha256": sha256}
    return found


def _names(kind: str, cells: Iterable[Cell]) -> Iterator[tuple[Places, str]]:
    yield registry.KINDS, kind
    tasks = {}
    for cell in cells:
        yield registry.METHODS, cell.method
        if cell.task in registry.task_tables():
            tasks[cell.task] = None
    for name in tasks:
        task = load_task(name, "task")
        yield registry.GENERATORS, task.generator
        yield registry.SCORERS, task.scorer


def check_brought(now: Brought, manifest: dict[str, Any], path: object) -> None:
    """Refuses to go on with other code than a run began with; a manifest that names none is taken as it is.

    Args:
        now: what would measure; manifest: of the run at `path`.

    Raises:
        ConfigError: names the first difference.
    """
    began = manifest.get("environment", {}).get("extensions")
    if began is None:
        return
    for what in sorted(now.keys() | began.keys()):
        if now.get(what) != began.get(what):
            raise ConfigError(
                f"--resume: {what} of {_said(began.get(what))}, with which {path} began, got {_said(now.get(what))}; "
                "install that one again, or begin another run"
            )


def _said(one: dict[str, str] | None) -> str:
    return f"{one.get('package')} (sha256 {one.get('sha256', '')[:12]})" if one else "pcbench"
