"""A run: the suite's groups one after another, each on disk before the next begins."""

import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from pcbench import ops
from pcbench.errors import ConfigError, Interrupted
from pcbench.harness.cells import Prepared, prepare_cells
from pcbench.harness.isolation import measure_in_child
from pcbench.harness.kernels import PreparedKernel, prepare_kernels
from pcbench.harness.progress import Progress
from pcbench.harness.session import KernelSession, ModelSession, Session, measure_group
from pcbench.measure.devices import Build, resolve_device
from pcbench.measure.environment import environment, provenance
from pcbench.models import model_spec
from pcbench.records import RunFolder
from pcbench.suites import KernelSuite, Suite, load_suite
from pcbench.tasks.files import set_data_dir
from pcbench.types import SCHEMA, DeviceKind, ModelSpec, Record

__all__ = ["Options", "Planned", "plan", "run"]

# groups that ended so are measured again by --resume
RETRIED = ("error", "timeout")


@dataclass(frozen=True)
class Options:
    """What the command line of `pcbench run` says."""

    suite: str
    device: str = "auto"
    preset: str | None = None
    model: str | None = None
    methods: Sequence[str] = ()
    sets: Sequence[str] = ()
    limit: int | None = None
    out: Path | None = None
    resume: bool = False
    isolate: bool = False

    def command(self, *extra: str) -> str:
        """The command line that says the same, for copying."""
        words = ["pcbench", "run", "--suite", self.suite]
        for flag, value in (("--preset", self.preset), ("--device", self.device), ("--model", self.model)):
            words += [flag, value] if value is not None else []
        for method in self.methods:
            words += ["--method", method]
        for text in self.sets:
            words += ["--set", text]
        words += ["--limit", str(self.limit)] if self.limit else []
        words += ["--isolate"] if self.isolate else []
        return shlex.join([*words, *extra])


@dataclass(frozen=True)
class Planned:
    """A run that could begin; a suite of kernels has no model."""

    options: Options
    suite: Suite | KernelSuite
    device: DeviceKind
    spec: ModelSpec | None
    cells: list[Any]

    def groups(self) -> list[list[Any]]:
        """Cells by group, in the order of measurement."""
        groups: dict[str, list[Any]] = {}
        for prepared in self.cells:
            groups.setdefault(prepared.cell.group, []).append(prepared)
        return list(groups.values())


def plan(options: Options) -> Planned:
    """Settles device, suite, model and cells without loading weights.

    Raises:
        PcbenchError: anything that would stop the whole run.
    """
    device = resolve_device(options.device, Build.here())
    suite = load_suite(
        options.suite,
        device,
        preset=options.preset,
        sets=options.sets,
        model=options.model,
        methods=options.methods,
    )
    if isinstance(suite, KernelSuite):
        return Planned(options, suite, device, None, prepare_kernels(suite, device, options.limit))
    if suite.data_dir is not None:
        set_data_dir(suite.data_dir)
    spec = model_spec(suite.settings.model)
    return Planned(options, suite, device, spec, prepare_cells(suite, spec, device, options.limit))


def run(options: Options, console: Console) -> tuple[RunFolder, list[Record]]:
    """Measures what is not in the folder yet.

    Args:
        options: the command line.
        console: for progress.

    Returns:
        The folder and all its records.

    Raises:
        PcbenchError: nothing could run.
        Interrupted: Ctrl-C; what was finished is in the folder.
    """
    planned = plan(options)
    folder, done = _open_folder(planned)
    try:
        _measure(planned, folder, done, console)
    except KeyboardInterrupt:
        command = options.command("--out", str(folder.path), "--resume")
        raise Interrupted(f"run: interrupted, finished groups are in {folder.path}; go on with: {command}") from None
    return folder, folder.records.read()


def _measure(planned: Planned, folder: RunFolder, done: set[str], console: Console) -> None:
    finished = [r for r in folder.records.read() if r.group in done]
    session = _session(planned, folder)
    measure = measure_in_child if planned.options.isolate else measure_group
    with Progress(len(planned.cells), len(finished), console) as progress:
        for cells in planned.groups():
            if cells[0].cell.group in done:
                continue
            result = measure(session, cells, _repro(planned, cells[0]), progress.working)
            folder.samples.append(result.samples)
            folder.records.append(result.records)
            folder.write_csv()
            _log_errors(folder, result.traces)
            for record in result.records:
                progress.finished(describe(record))


def describe(record: Record) -> str:
    """One line a person reads when a cell is finished."""
    tokens = "" if record.context_tokens is None else f" {record.context_tokens}"
    head = f"{record.method}/{record.backend} @ {record.workload}{tokens}"
    if record.status != "ok":
        return f"{head}: {record.status}: {record.reason}"
    parts = []
    if record.ms_p50 is not None:
        parts.append(f"{record.ms_p50:.4f} ms" if record.op else f"{record.ms_p50 / 1e3:.2f} s")
    if record.speedup_vs_baseline is not None:
        parts.append(f"{record.speedup_vs_baseline:.2f}x {record.baseline}")
    if record.speedup_vs_full is not None:
        parts.append(f"{record.speedup_vs_full:.2f}x {record.baseline}")
    if record.speedup_vs_reference is not None:
        parts.append(f"{record.speedup_vs_reference:.2f}x reference")
    if record.score is not None:
        parts.append(f"{record.score_name} {record.score * 100:.0f} % of {record.n_samples} ({record.scorer})")
    return f"{head}: {', '.join(parts) or 'ok'}"


def _session(planned: Planned, folder: RunFolder) -> Session:
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    shared = {"run": folder.manifest["run"], "started_at": started, **provenance(planned.device)}
    return KernelSession(shared) if planned.spec is None else ModelSession(planned.spec, shared)


def _repro(planned: Planned, prepared: Prepared | PreparedKernel) -> str:
    """The command that measures one group of the suite."""
    options, cell = planned.options, prepared.cell
    if isinstance(prepared, PreparedKernel):
        numbers = prepared.shape.model_dump(exclude_none=True)
        shape = ", ".join(f"{key} = {json.dumps(value)}" for key, value in numbers.items())
        narrowed = f"kernel.{prepared.op}.shapes=[{{{shape}}}]"
        return replace(options, methods=[prepared.op]).command("--set", narrowed)
    workload = next(w for w in planned.suite.workloads if w.name == cell.workload)
    path = "suite" if workload.context_tokens is None else f"workload.{workload.name}"
    return options.command(
        "--set", f'suite.workloads=["{workload.name}"]', "--set", f"{path}.context_tokens=[{cell.context_tokens}]"
    )


def _open_folder(planned: Planned) -> tuple[RunFolder, set[str]]:
    """The run's folder with its manifest, and the groups that are finished in it."""
    options = planned.options
    name = f"{planned.suite.name}_{planned.device}_{time.strftime('%Y%m%d-%H%M%S')}"
    folder = RunFolder(options.out or Path("reports") / "runs" / name)
    held = (folder.path / "manifest.json").is_file()
    if held and not options.resume:
        raise ConfigError(f"--out: a new folder, got {folder.path} with a run in it; add --resume or choose another")
    if options.resume and not held:
        raise ConfigError(f"--resume: --out with the folder of an interrupted run, got {folder.path}; name it")
    if not held:
        folder.create()
        folder.write_manifest(_manifest(planned, options.out.name if options.out else name))
        return folder, set()
    for what, now in _planned(planned).items():
        if folder.manifest[what] != now:
            raise ConfigError(
                f"--resume: the command that began {folder.path}, got one with other {what}; see manifest.json"
            )
    done = _finished(planned, folder)
    folder.keep_groups(done)
    return folder, done


def _finished(planned: Planned, folder: RunFolder) -> set[str]:
    """Groups whose every cell has a record that need not be taken again."""
    latest = {record.cell: record for record in folder.records.read()}
    done = set()
    for cells in planned.groups():
        records = [latest.get(prepared.cell.key) for prepared in cells]
        if all(record is not None and record.status not in RETRIED for record in records):
            done.add(cells[0].cell.group)
    return done


def _planned(planned: Planned) -> dict[str, list[Any]]:
    """What a run that goes on must share with the one that began."""
    return {
        "cells": [prepared.cell.key for prepared in planned.cells],
        "prompts": [prepared.cell.prompts for prepared in planned.cells],
        "new_tokens": [prepared.new_tokens for prepared in planned.cells if isinstance(prepared, Prepared)],
    }


def _manifest(planned: Planned, name: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "run": name,
        "suite": planned.suite.name,
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": planned.options.command(),
        "settings": planned.suite.settings.model_dump(mode="json"),
        "model": asdict(planned.spec) if planned.spec else None,
        "environment": environment(planned.device),
        "builds": {name: ops.why_not(name) or "available" for name in ("cpu", "cuda", "hip")},
        **_planned(planned),
    }


def _log_errors(folder: RunFolder, traces: dict[str, str]) -> None:
    """errors.txt keeps the tracebacks whose one line is in the records."""
    if traces:
        with (folder.path / "errors.txt").open("a", encoding="utf-8") as file:
            file.writelines(f"{cell}\n{trace}\n" for cell, trace in traces.items())
