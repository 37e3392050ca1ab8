"""A kind of measurement from outside: how long a sum over n numbers takes."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from pcbench.config import Count, Repeats, Seconds, Table, validate
from pcbench.errors import ConfigError
from pcbench.harness.kinds import Estimate, Kind, Measured, Narrowed, Say
from pcbench.harness.kinds.times import add_samples
from pcbench.suites import Source, Suite, set_settings
from pcbench.types import Cell, Record, Sample, Status

# of one number, for an estimate
NUMBER_S, NUMBER_BYTES = 1e-9, 8


class Settings(Table):
    """`[suite]`; `deadly` is a length whose sum ends its process."""

    kind: str
    numbers: Annotated[list[Count], Field(min_length=1)]
    rounds: Repeats = 3
    deadly: Count | None = None
    timeout_s: Seconds | None = None


class File(Table):
    suite: dict[str, Any]


@dataclass(frozen=True)
class Sum:
    cell: Cell
    numbers: int


@dataclass
class Summing:
    """Sums have nothing to share but the fields of the run."""

    shared: dict[str, Any]
    deadly: int | None

    def fresh(self) -> "Summing":
        return self

    def measure(self, cells: list[Sum], repro: str, say: Say) -> Measured:
        records, samples = [], []
        for prepared in cells:
            say(prepared.cell.name)
            if prepared.numbers == self.deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            record = Record.of(prepared.cell, repro_command=repro, **self.shared)
            numbers, times = np.arange(prepared.numbers), []
            for _ in range(prepared.cell.repeats):
                start = time.perf_counter()
                found = int(numbers.sum())
                times.append((time.perf_counter() - start) * 1e3)
            error = abs(found - prepared.numbers * (prepared.numbers - 1) // 2)
            record.parity_err, record.parity_bound = float(error), 0.0
            add_samples(record, times)
            records.append(record)
            samples.append(Sample(**self._sample(prepared, found)))
        return Measured(records, samples)

    def _sample(self, prepared: Sum, found: int) -> dict[str, Any]:
        said = dict(prediction=str(found), answers=[str(found)], score=None, scorer=None, prompt_sha256="")
        return dict(cell=prepared.cell.key, task="", id=str(prepared.numbers), **said)

    def lost(self, cells: list[Sum], repro: str, status: Status, reason: str) -> Measured:
        fields = dict(status=status, reason=reason, repro_command=repro, **self.shared)
        return Measured([Record.of(prepared.cell, **fields) for prepared in cells], [])


class Toy(Kind):
    """Sums; a group is one length."""

    def __init__(self, suite: Suite, device: str, limit: int | None) -> None:
        settings = suite.settings
        rounds = min(settings.rounds, limit or settings.rounds)
        what = dict(suite=suite.name, kind=settings.kind, model="", method="sum", method_config={}, backend="numpy")
        how = dict(device=device, dtype="int64", context_tokens=None, seed=0, task="", timed=True)
        self.suite = suite
        self.cells = [
            Sum(Cell(**what, **how, workload=f"{n} numbers", repeats=rounds, prompts=rounds), n)
            for n in settings.numbers
        ]

    @classmethod
    def read(cls, source: Source, model: str | None, methods: Sequence[str]) -> Suite:
        if model is not None or methods:
            raise ConfigError(f"{source.where}: no --model and no --method, got one; sums have none, leave it out")
        file = validate(File, source.document, source.where)
        settings = dict(file.suite)
        for change in source.changes(()):
            if not set_settings(source, settings, change, Settings.model_fields):
                raise ConfigError(
                    f'{source.where}: {change.source}: suite.KEY, got "{change.path}"; give the whole path'
                )
        return Suite(source.name, source.where, validate(Settings, settings, f"{source.where}: suite"), source.data_dir)

    def session(self, folder: Path, shared: dict[str, Any]) -> Summing:
        return Summing(shared, self.suite.settings.deadly)

    def narrowed(self, prepared: Sum) -> Narrowed:
        return Narrowed([f"suite.numbers=[{prepared.numbers}]"])

    def estimates(self) -> Iterator[Estimate]:
        for prepared in self.cells:
            cell, n = prepared.cell, prepared.numbers
            sizes = {"numbers": n * NUMBER_BYTES}
            yield Estimate(cell.name, cell.key, cell.repeats, cell.repeats * n * NUMBER_S, sizes, None)
