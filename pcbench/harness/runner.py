"""A run: plan, open the folder, measure the groups one after another, each on disk before the next begins, finish."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pcbench.errors import DiskFull, FolderLost, Interrupted, RankLost
from pcbench.harness.duration import Remaining, spoken
from pcbench.harness.kinds import Estimate, Measured, PlannedCell, Say, Session
from pcbench.harness.options import Options
from pcbench.harness.plan import Planned, plan
from pcbench.harness.processes import followers, ranks
from pcbench.harness.processes.isolation import measure_in_child
from pcbench.harness.processes.lock import joined_in
from pcbench.harness.progress import Progress, describe
from pcbench.harness.resume import add_start, end_start, open_folder
from pcbench.measure.machine.devices import Build, resolve_device
from pcbench.measure.machine.environment import provenance
from pcbench.measure.machine.load import busy_here
from pcbench.records import RunFolder
from pcbench.suites.labels import labels
from pcbench.system.terminal import Terminal
from pcbench.tasks.files import set_data_dir
from pcbench.types import Record, placed

__all__ = ["Options", "Planned", "plan", "run"]


# takes the name of a cell and its record as soon as that is on the disk
Watch = Callable[[str, Record], None]


@dataclass(frozen=True)
class Begun:
    """What rank 0 decides for all.

    Args:
        planned: the plan.
        path: of the run's folder.
        done: the groups that are finished in it.
        estimates: of the cells that are not.
        busy: a line about what else the machine computes; None where it is quiet.
    """

    planned: Planned
    path: Path
    done: set[str]
    estimates: Sequence[Estimate]
    busy: str | None


def run(options: Options, console: Terminal, watch: Watch | None = None) -> tuple[RunFolder, list[Record]]:
    """Measures what is not in the folder yet; under torchrun this rank's share of it.

    Args:
        options: the command line.
        console: for progress.
        watch: told of every cell that this process measures.

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
        begun = ranks.from_first(lambda: _begin(options, held))
        path = begun.path
        folder = RunFolder(path, ranks.rank())
        if ranks.rank():
            _join(begun.planned, folder, held)
            # of all ranks only the first has a live line
            console = Terminal(stderr=True, force_terminal=False)
        command = options.command("--out", str(path), "--resume")
        try:
            _measure(begun, folder, console, watch)
        except KeyboardInterrupt:
            raise Interrupted(f"run: interrupted, what was finished is in {path}; go on with: {command}") from None
        except DiskFull as error:
            raise DiskFull(f"{error} and go on with: {command}") from error
        except FolderLost as error:
            raise FolderLost(f"{error}; where it takes files again go on with: {command}") from error
        except RankLost as error:
            raise RankLost(f"run: {error}; what was finished is in {path}, go on with: {command}") from None
        return folder, RunFolder(path).records.read()


def _begin(options: Options, held: ExitStack) -> Begun:
    """The plan, the folder, which is its own while `held`, and what is left to measure."""
    planned = plan(options)
    path, done = open_folder(planned, held)
    # before the probes of the estimates are work of their own
    busy = busy_here()
    left = {prepared.cell.key for prepared in planned.cells if prepared.cell.group not in done}
    rows = planned.kind.estimates() if left else ()
    return Begun(planned, path, done, [row for row in rows if row.key in left], busy)


def _join(planned: Planned, folder: RunFolder, held: ExitStack) -> None:
    """What another rank needs to measure by the plan of rank 0."""
    # says where the folder is not there
    _ = folder.manifest
    held.enter_context(joined_in(folder.path))
    resolve_device(planned.device, Build.here())
    if planned.suite.data_dir is not None:
        set_data_dir(planned.suite.data_dir)


def _measure(begun: Begun, folder: RunFolder, console: Terminal, watch: Watch | None) -> None:
    planned, started = begun.planned, time.monotonic()
    groups = [cells for cells in planned.groups() if cells[0].cell.group not in begun.done]
    finished = len(planned.cells) - sum(map(len, groups))
    session = planned.kind.session(folder.path, _shared(planned, folder))
    if not planned.kind.by_prompt:
        groups = followers.own_groups(planned.cells, groups, session)
    remaining = _remaining(begun, groups)
    if ranks.rank() == 0:
        add_start(folder, remaining.total, begun.busy)
    names = {prepared.cell.key: prepared.cell.name for prepared in planned.cells}
    with Progress(finished + sum(map(len, groups)), finished, console, remaining, names) as progress:
        for line in _announced(begun, remaining) if ranks.rank() == 0 else ():
            progress.say(line)
        for cells in groups:
            group = (session, cells, planned.repro(cells[0]), progress.working)
            isolate, timeout_s = planned.options.isolate, planned.suite.settings.timeout_s
            measured = measure_in_child(*group, timeout_s) if isolate else measure_group(*group)
            _warn(measured.records, begun.busy)
            _keep(measured, folder, progress)
            for record in measured.records if watch else ():
                watch(names[record.cell], record)
        followers.dismiss(planned.cells)
        ranks.gather(None)
        if ranks.rank() == 0:
            _finish(planned, folder, progress.say)
            end_start(folder, time.monotonic() - started)


def _remaining(begun: Begun, groups: list[list[PlannedCell]]) -> Remaining:
    """Of this rank: its groups, and of every cell its share of the prompts where ranks share these."""
    mine = {prepared.cell.key for cells in groups for prepared in cells}
    parts = ranks.ranks() if begun.planned.kind.by_prompt else 1
    rows = [replace(row, seconds=row.seconds / parts) for row in begun.estimates if row.key in mine]
    return Remaining([replace(row, passes=-(-row.passes // parts)) for row in rows])


def _announced(begun: Begun, remaining: Remaining) -> Iterator[str]:
    """What a person should know before it begins."""
    if begun.planned.said:
        yield begun.planned.said
    if cells := len(begun.estimates):
        ends = time.strftime("%H:%M", time.localtime(time.time() + remaining.left()))
        yield f"{cells} cell{'s' * (cells != 1)}, about {spoken(remaining.left())}, until {ends}"
    if begun.busy:
        yield begun.busy


def _warn(records: Sequence[Record], busy: str | None) -> None:
    """Says of times taken on a CPU what was computed beside them."""
    ranks.warn_of_neighbours(records)
    for record in records:
        if busy and record.device == "cpu" and (record.ms_p50 or record.served_ms_p50) is not None:
            record.warnings.append(busy)


def measure_group(session: Session, cells: list[PlannedCell], repro: str, say: Say) -> Measured:
    """Measures one group in this process."""
    return session.measure(cells, repro, say)


def _keep(result: Measured, folder: RunFolder, progress: Progress) -> None:
    """Puts a group on the disk and says so."""
    folder.samples.append(result.samples)
    if result.parts:
        folder.parts.append(result.parts)
    folder.records.append(result.records)
    if ranks.rank() == 0:
        folder.write_csv()
    folder.log_errors(result.traces)
    for record in result.records:
        progress.finished(record)
    for note in result.notes:
        progress.say(note)


def _finish(planned: Planned, folder: RunFolder, say: Say) -> None:
    """One file of records and one of samples, in the suite's order, and the records over several cells."""
    folder.arrange([prepared.cell.key for prepared in planned.cells], ranks.ranks())
    derived = planned.kind.derived(folder, _shared(planned, folder), planned.options.command(), say)
    folder.records.append(derived)
    for label, record in zip(labels(derived), derived, strict=True):
        say(f"{placed(label, record.workload, record.context_tokens)}: {describe(record)}")
    folder.write_csv()


def _shared(planned: Planned, folder: RunFolder) -> dict[str, Any]:
    """The fields all records carry.

    Raises:
        DataMissing: a rank does not see the folder of rank 0.
    """
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return {"run": folder.manifest["run"], "started_at": started, **provenance(planned.device)}
