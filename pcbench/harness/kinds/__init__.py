"""Kinds of measurement, one folder each, and all that the runner and its processes know of one.

`registry.KINDS` names the class of every kind; `[suite] kind` of a suite's file chooses. Importing this package and the
settings of a kind imports no torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pcbench.errors import ConfigError
from pcbench.records import RunFolder
from pcbench.suites import Source, Suite
from pcbench.types import Cell, DeviceKind, ModelSpec, Part, Record, Sample, Status

__all__ = ["Estimate", "Kind", "Measured", "Narrowed", "PlannedCell", "Say", "Session", "Taken"]

# cells that ended so are measured again by --resume
RETRIED = ("error", "timeout", "data_missing")


class Say(Protocol):
    """Told what is being done: a text for a person, and the keys of the cells of which a pass begins by it."""

    def __call__(self, text: str, *cells: str) -> object: ...


class PlannedCell(Protocol):
    """A cell, and whatever its kind needs to measure it. It goes to other processes, so it can be pickled."""

    @property
    def cell(self) -> Cell:
        """What becomes a record."""


@dataclass
class Measured:
    """A finished group.

    Args:
        records, samples: of its cells.
        traces: of cells that ended in an error.
        notes: for the console.
        parts: of a shard of prompts, one a cell.
    """

    records: list[Record]
    samples: list[Sample]
    traces: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)


@dataclass(frozen=True)
class Taken:
    """What a shard of prompts has of a cell."""

    record: Record
    samples: list[Sample]
    part: Part


class Session(Protocol):
    """What groups of one process share, as a loaded model, and how one of them is measured."""

    def fresh(self) -> "Session":
        """The same for another process: without what this one has loaded."""

    def measure(self, cells: list[Any], repro: str, say: Say) -> Measured:
        """Measures one group in this process.

        Args:
            cells: of the group.
            repro: the command that measures it again, for the records.
            say: told what is being done.

        Raises:
            Exception: it ends the run; what ends a cell is the status of its record.
        """

    def lost(self, cells: list[Any], repro: str, status: Status, reason: str) -> Measured:
        """Records of a group whose process ended before it told any."""


@dataclass(frozen=True)
class Narrowed:
    """What of a command line narrows its suite to one group.

    Args:
        sets: `path=value` of `--set`.
        methods: of `--method`; none leaves those of the run.
        tasks: of `--task`, or else of `--set suite.tasks`; none leaves those of the run.
    """

    sets: Sequence[str]
    methods: Sequence[str] = ()
    tasks: Sequence[str] = ()


@dataclass(frozen=True)
class Estimate:
    """One cell before it runs.

    Args:
        cell: its name; key: its key.
        passes: the untimed ones included.
        seconds: of all of them.
        sizes: bytes by what they hold: weights, KV of one prompt; of a kernel what it reads and writes.
        why_not: why the cell will not run, None when it will.
    """

    cell: str
    key: str
    passes: int
    seconds: float
    sizes: dict[str, int]
    why_not: str | None


class Kind(Protocol):
    """A suite of one kind, planned for a device. A kind is a subclass; what has a body here it may leave out.

    Args:
        suite: what `read` has made.
        device: where it is measured.
        limit: of `--limit`: prompts, or what else is repeated, per cell at most.

    Attributes:
        cells: in the order of measurement; those with the same `cell.group` are measured together.
        spec: of the suite's model; None without one.
        by_prompt: a session puts every prompt's sample on the disk: ranks and shards share the prompts of a group, a
            shard those of `Cell.indices`, and --resume goes on inside one; the cells are dataclasses. Else ranks and
            shards share the groups, and a group that has not ended begins anew.
        takes_tasks: `source.tasks`, of `--task`, stand in place of the suite's; else `--task` is refused.

    Raises:
        PcbenchError: something would stop the whole run: a name or value that is wrong, by key path, or what cannot fit
            in this machine. No weights are loaded.
    """

    suite: Suite
    cells: Sequence[PlannedCell]
    spec: ModelSpec | None = None
    by_prompt: bool = False
    takes_tasks: bool = False

    def __init__(self, suite: Suite, device: DeviceKind, limit: int | None) -> None: ...

    @classmethod
    def read(cls, source: Source, model: str | None, methods: Sequence[str]) -> Suite:
        """The suite of a file: the kind's settings and tables, with what the command line changes in them.

        Args:
            source: the file, the preset and every `--set`.
            model: of `--model`.
            methods: of `--method`; none keeps all.

        Raises:
            ConfigError: anything unknown or impossible, by key path.
        """

    def session(self, folder: Path, shared: dict[str, Any]) -> Session:
        """What measures the groups.

        Args:
            folder: of the run.
            shared: fields all records carry: run, gpu, arch, torch, commit, …
        """

    def narrowed(self, prepared: Any) -> Narrowed:
        """What measures the group of one of the `cells` again."""

    def estimates(self) -> Iterator[Estimate]:
        """An estimate for every cell, in the order of measurement."""

    def fixed(self) -> dict[str, list[Any]]:
        """What a run that goes on must share with the one that began, one entry a cell; it is in manifest.json."""
        cells = [prepared.cell for prepared in self.cells]
        of_cells = {
            "cells": [cell.key for cell in cells],
            "tasks": [cell.task for cell in cells],
            "timed": [cell.timed for cell in cells],
            "prompts": [cell.prompts for cell in cells],
        }
        return of_cells | {"new_tokens": []}

    def is_finished(self, record: Record) -> bool:
        """Whether --resume leaves a cell's record as it is."""
        return record.status not in RETRIED

    def derived(self, folder: RunFolder, shared: dict[str, Any], repro: str, say: Say) -> list[Record]:
        """Records over several cells, once all of them are in the folder.

        Args:
            folder: of the run.
            shared: as of `session`.
            repro: the command of the run.
            say: prints a line.
        """
        return []

    def merged(
        self, cells: list[Any], shards: Sequence[Sequence[Taken]], shared: dict[str, Any], repro: str, say: Say
    ) -> list[Record]:
        """Records of a group whose prompts shards have shared, as of one run; for kinds that are `by_prompt`.

        Args:
            cells: of the group.
            shards: what each that has prompts of it has of every cell.
            shared, repro, say: as of `derived`.

        Raises:
            ConfigError: the kind cannot tell.
        """
        raise ConfigError(
            f"{self.suite.where}: a kind whose `merged` joins the prompts of shards, got {self.suite.settings.kind}; "
            "measure it in one run"
        )
