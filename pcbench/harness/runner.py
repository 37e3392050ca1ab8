"""A run: the suite's groups one after another, each on disk before the next begins."""

import json
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pcbench import ops
from pcbench.errors import ConfigError, DataMissing, DiskFull, FolderLost, Interrupted, RankLost
from pcbench.harness.kinds.accuracy.group import AccuracySession
from pcbench.harness.kinds.accuracy.summary import average_records, records_by_words
from pcbench.harness.kinds.kernel.cells import PreparedKernel, prepare_kernels
from pcbench.harness.kinds.methods.cells import Prepared, prepare_cells
from pcbench.harness.kinds.methods.session import KernelSession, ModelSession, Session, measure_group
from pcbench.harness.kinds.sizes import check_kernels, check_prompts
from pcbench.harness.processes import followers, ranks
from pcbench.harness.processes.isolation import measure_in_child
from pcbench.harness.processes.lock import joined_in, locked
from pcbench.harness.progress import Progress, describe
from pcbench.harness.resume import check_new, check_same, holds_run
from pcbench.measure.machine.devices import Build, resolve_device
from pcbench.measure.machine.environment import environment, provenance
from pcbench.models import model_spec
from pcbench.records import RunFolder
from pcbench.suites import AccuracySettings, KernelSuite, Suite, load_suite
from pcbench.system.terminal import Terminal
from pcbench.tasks.files import set_data_dir
from pcbench.types import SCHEMA, DeviceKind, ModelSpec, Record

__all__ = ["Options", "Planned", "plan", "run"]

# groups that ended so are measured again by --resume
RETRIED = ("error", "timeout", "data_missing")


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
        """The command line that says the same, on as many ranks, for copying."""
        words = [*ranks.launch(), "pcbench", "run", "--suite", self.suite]
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

    @property
    def accuracy(self) -> AccuracySettings | None:
        """The settings of an accuracy suite."""
        settings = self.suite.settings
        return settings if isinstance(settings, AccuracySettings) else None

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
    if suite.settings.timeout_s is not None and not options.isolate:
        raise ConfigError(
            f"{suite.where}: suite.timeout_s: --isolate, got none; a group of this process cannot be stopped"
        )
    if isinstance(suite, KernelSuite):
        kernels = prepare_kernels(suite, device, options.limit)
        check_kernels(suite.where, kernels)
        return Planned(options, suite, device, None, kernels)
    _set_data_dir(suite)
    spec = model_spec(suite.settings.model)
    planned = Planned(options, suite, device, spec, prepare_cells(suite, spec, device, options.limit))
    if all(prepared.missing for prepared in planned.cells):
        raise DataMissing(planned.cells[0].missing)
    if planned.accuracy and options.isolate and ranks.ranks() > 1:
        raise ConfigError(f"--isolate: an accuracy suite on one rank, got {ranks.ranks()} ranks; leave it out")
    check_prompts(suite.where, planned.cells, spec)
    followers.check_shared(planned.cells, accuracy=planned.accuracy is not None, isolate=options.isolate)
    return planned


def _set_data_dir(suite: Suite | KernelSuite) -> None:
    if isinstance(suite, Suite) and suite.data_dir is not None:
        set_data_dir(suite.data_dir)


def run(options: Options, console: Terminal) -> tuple[RunFolder, list[Record]]:
    """Measures what is not in the folder yet; under torchrun this rank's share of it.

    Args:
        options: the command line.
        console: for progress.

    Returns:
        The folder and all its records.

    Raises:
        PcbenchError: nothing could run.
        RankLost: another rank has ended; what was finished is in the folder.
        Interrupted: Ctrl-C; what was finished is in the folder.
        DiskFull: no room for a group; what was finished before is in the folder.
        FolderLost: the folder has gone or takes no more files.
    """
    with ranks.joined(), ExitStack() as held:
        planned, path, done = ranks.from_first(lambda: _begin(options, held))
        folder = RunFolder(path, ranks.rank())
        if ranks.rank():
            # says where the folder is not there
            _ = folder.manifest
            held.enter_context(joined_in(path))
            resolve_device(planned.device, Build.here())
            _set_data_dir(planned.suite)
            # of all ranks only the first has a live line
            console = Terminal(stderr=True, force_terminal=False)
        command = options.command("--out", str(path), "--resume")
        try:
            _measure(planned, folder, done, console)
        except KeyboardInterrupt:
            raise Interrupted(f"run: interrupted, what was finished is in {path}; go on with: {command}") from None
        except DiskFull as error:
            raise DiskFull(f"{error} and go on with: {command}") from error
        except FolderLost as error:
            raise FolderLost(f"{error}; where it takes files again go on with: {command}") from error
        except RankLost as error:
            raise RankLost(f"run: {error}; what was finished is in {path}, go on with: {command}") from None
        return folder, RunFolder(path).records.read()


def _begin(options: Options, held: ExitStack) -> tuple[Planned, Path, set[str]]:
    """What rank 0 decides for all: the plan, the folder, which is its own while `held`, and what is finished in it."""
    planned = plan(options)
    folder, done = _open_folder(planned, held)
    return planned, folder.path, done


def _measure(planned: Planned, folder: RunFolder, done: set[str], console: Terminal) -> None:
    groups = [cells for cells in planned.groups() if cells[0].cell.group not in done]
    finished = len(planned.cells) - sum(map(len, groups))
    session, isolate = _session(planned, folder), planned.options.isolate
    if not planned.accuracy:
        # the ranks of an accuracy suite share the prompts of every group
        groups = followers.own_groups(planned.cells, groups, session)
    with Progress(finished + sum(map(len, groups)), finished, console) as progress:
        for cells in groups:
            group = (session, cells, _repro(planned, cells[0]), progress.working)
            result = measure_in_child(*group, planned.suite.settings.timeout_s) if isolate else measure_group(*group)
            ranks.warn_of_neighbours(result.records)
            folder.samples.append(result.samples)
            folder.records.append(result.records)
            if ranks.rank() == 0:
                folder.write_csv()
            folder.log_errors(result.traces)
            for record in result.records:
                progress.finished(describe(record))
            for note in result.notes:
                progress.say(note)
        followers.dismiss(planned.cells)
        ranks.gather(None)
        if ranks.rank() == 0:
            _finish(planned, folder, progress.say)


def _finish(planned: Planned, folder: RunFolder, say: Callable[[str], None]) -> None:
    """One file of records and one of samples, in the suite's order, and scores of parts and averages."""
    folder.arrange([prepared.cell.key for prepared in planned.cells], ranks.ranks())
    derived = _derived(planned, folder, say)
    folder.records.append(derived)
    for record in derived:
        say(describe(record))
    folder.write_csv()


def _derived(planned: Planned, folder: RunFolder, say: Callable[[str], None]) -> list[Record]:
    """Scores by the length of records and averages over datasets, where the suite wants them."""
    settings, spec = planned.accuracy, planned.spec
    if settings is None or spec is None or not (settings.by_words or settings.average):
        return []
    records = {record.cell: record for record in folder.records.read()}
    samples, shared, command = folder.samples.read(), _shared(planned, folder), planned.options.command()
    found = []
    if settings.by_words:
        found += records_by_words(planned.cells, records, samples, spec, shared, command)
    if settings.average:
        found += average_records(planned.cells, records, samples, settings.average, shared, command, say)
    return found


def _session(planned: Planned, folder: RunFolder) -> Session:
    shared = _shared(planned, folder)
    if planned.spec is None:
        return KernelSession(shared)
    if planned.accuracy:
        return AccuracySession(planned.spec, shared, path=folder.path)
    return ModelSession(planned.spec, shared)


def _shared(planned: Planned, folder: RunFolder) -> dict[str, Any]:
    """The fields all records carry.

    Raises:
        DataMissing: a rank does not see the folder of rank 0.
    """
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return {"run": folder.manifest["run"], "started_at": started, **provenance(planned.device)}


def _repro(planned: Planned, prepared: Prepared | PreparedKernel) -> str:
    """The command that measures one group of the suite."""
    options, cell = planned.options, prepared.cell
    tokens = f"context_tokens=[{cell.context_tokens}]"
    if planned.accuracy:
        return options.command("--set", f"suite.tasks=[{cell.workload}]", "--set", f"suite.{tokens}")
    if isinstance(prepared, PreparedKernel):
        numbers = prepared.shape.model_dump(exclude_none=True)
        shape = ", ".join(f"{key} = {json.dumps(value)}" for key, value in numbers.items())
        narrowed = f"kernel.{prepared.op}.shapes=[{{{shape}}}]"
        return replace(options, methods=[prepared.op]).command("--set", narrowed)
    workload = next(w for w in planned.suite.workloads if w.name == cell.workload)
    path = "suite" if workload.context_tokens is None else f"workload.{workload.name}"
    return options.command("--set", f'suite.workloads=["{workload.name}"]', "--set", f"{path}.{tokens}")


def _open_folder(planned: Planned, held: ExitStack) -> tuple[RunFolder, set[str]]:
    """The run's folder with its manifest, and the groups that are finished in it."""
    options = planned.options
    name = f"{planned.suite.name}_{planned.device}_{time.strftime('%Y%m%d-%H%M%S')}"
    folder = RunFolder(options.out or Path("reports") / "runs" / name)
    if options.resume and not holds_run(folder):
        raise ConfigError(f"--resume: --out with the folder of an interrupted run, got {folder.path}; name it")
    try:
        if not options.resume:
            folder.create()
        held.enter_context(locked(folder.path, lambda: options.resume or check_new(folder, ranks.ranks())))
        if not options.resume:
            folder.write_manifest(_manifest(planned, options.out.name if options.out else name))
            return folder, set()
    except OSError as error:
        said = f"--out: a folder to write in, got {folder.path}: {error.strerror}; choose another"
        raise ConfigError(said) from error
    return folder, _go_on(planned, folder)


def _go_on(planned: Planned, folder: RunFolder) -> set[str]:
    """Makes the folder of an interrupted run ready to go on; the groups that are finished in it."""
    check_same(folder, planned.suite.settings.model_dump(mode="json"), _planned(planned))
    manifest = folder.manifest
    began = manifest.get("environment", {}).get("ranks")
    followers.check_resumed(planned.cells, began, folder.path)
    keys = [prepared.cell.key for prepared in planned.cells]
    folder.arrange(keys, manifest.get("rank_files", began or 1))
    if ranks.ranks() != manifest.get("rank_files", began):
        folder.write_manifest(manifest | {"rank_files": ranks.ranks()})
    done = _finished(planned, folder)
    folder.keep_groups(done, keys if planned.accuracy else ())
    return done


def _finished(planned: Planned, folder: RunFolder) -> set[str]:
    """Groups whose every cell has a record that need not be taken again."""
    latest = {record.cell: record for record in folder.records.read()}
    done = set()
    for cells in planned.groups():
        records = [latest.get(prepared.cell.key) for prepared in cells]
        if not any(record is None or record.status in RETRIED or record.skipped_records for record in records):
            done.add(cells[0].cell.group)
    return done


def _planned(planned: Planned) -> dict[str, list[Any]]:
    """What a run that goes on must share with the one that began."""
    return {
        "cells": [prepared.cell.key for prepared in planned.cells],
        "tasks": [prepared.cell.task for prepared in planned.cells],
        "timed": [prepared.cell.timed for prepared in planned.cells],
        "prompts": _prompts(planned),
        "new_tokens": [prepared.new_tokens for prepared in planned.cells if isinstance(prepared, Prepared)],
    }


def _prompts(planned: Planned) -> list[int | None]:
    """Of every cell; None where a task's own records decide, which may come later."""
    limit, settings = planned.options.limit, planned.accuracy
    if settings is None:
        return [prepared.cell.prompts for prepared in planned.cells]
    asked = [n for n in (limit, settings.prompts) if n is not None]
    return [min(asked, default=None)] * len(planned.cells)


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
