"""The folders of all shards of a run → the folder that one run would have left."""

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pcbench.errors import ConfigError
from pcbench.harness.kinds import Kind, PlannedCell, Say, Taken
from pcbench.harness.options import Options
from pcbench.harness.plan import Planned, plan_for
from pcbench.harness.shards.shard import Shard
from pcbench.harness.shards.together import ShardRun, all_of_one_run, first_difference, measured
from pcbench.plain_files import read_text, write_whole
from pcbench.records import RunFolder
from pcbench.rows import EDITED
from pcbench.suites import load_kind
from pcbench.types import Record

__all__ = ["merge"]

# what records say of the machine and the code; of several machines all of it is said
SHARED = ("gpu", "arch", "torch", "runtime", "telemetry", "commit", "dirty")
TRACES_BYTES = 1 << 28


def merge(out: Path, paths: Sequence[Path], say: Say) -> RunFolder:
    """Joins the shards of a run: the same records and samples as of one run, but for times, machine and names.

    Records of prompts are made again from the samples of all shards, by the suite, the model's config and the tasks as
    they are here; no weights are loaded and no device is needed.

    Args:
        out: the new folder; it is there with everything in it, or not at all.
        paths: the shards' folders, which stay as they are.
        say: prints a line.

    Raises:
        DataMissing: a folder without a run, or something that the suite names is not here.
        ConfigError: the folders are not all shards of one run, or `out` cannot be written.
        DiskFull: no room.
    """
    runs = all_of_one_run(paths)
    with _whole_or_not_at_all(out) as path:
        folder = RunFolder(path)
        folder.write_manifest(_manifest(runs, out.name))
        _Merging(runs, folder, out.name, say).write()
        traces = [run.path / "errors.txt" for run in runs if (run.path / "errors.txt").is_file()]
        if traces:
            write_whole(path / "errors.txt", "".join(read_text(trace, TRACES_BYTES) for trace in traces))
    return RunFolder(out)


@contextmanager
def _whole_or_not_at_all(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes it at the end of a `with`."""
    if os.path.lexists(out):
        raise ConfigError(f"merge: a new folder, got {out}, which is there; choose another")
    part = out.absolute().with_name(f".{secrets.token_hex(8)}.part")
    try:
        try:
            part.mkdir(parents=True)
            yield part
            part.rename(out)
        except OSError as error:
            got = f"{out}: {error.strerror or error}"
            raise ConfigError(f"merge: a folder to write in, got {got}; choose another") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


class _Merging:
    """What is written into a merged folder.

    Args:
        runs: the shards by their numbers.
        folder: with its manifest.
        name: of the merged run.
        say: prints a line.
    """

    def __init__(self, runs: Sequence[ShardRun], folder: RunFolder, name: str, say: Say) -> None:
        self.runs, self.folder, self.name, self.say = runs, folder, name, say
        self.whole: dict[str, list[Any]] = runs[0].shard.whole
        self.plans: type[Kind] = load_kind(runs[0].manifest["settings"].get("kind"), str(runs[0].path))

    def write(self) -> None:
        """Records and samples, in the suite's order, and the records over several cells."""
        derives = self.plans.derived is not Kind.derived
        planned = _planned(self.runs[0]) if self.plans.by_prompt or derives else None
        if planned is not None and self.plans.by_prompt:
            records = [record for cells in planned.groups() for record in self._joined(planned, cells)]
        else:
            records = [replace(self._only(cell), run=self.name) for cell in self.whole["cells"]]
        cells = set(self.whole["cells"])
        self.folder.records.replace(records)
        self.folder.samples.replace([s for run in self.runs for s in run.samples if s.cell in cells])
        self.folder.arrange(self.whole["cells"], 1)
        if planned is not None:
            shared = self._shared([record for run in self.runs for record in run.records.values()])
            self.folder.records.append(planned.kind.derived(self.folder, shared, planned.options.command(), self.say))
        self.folder.write_csv()

    def _only(self, cell: str) -> Record:
        """The record of a cell whose group is one shard's."""
        found = [run.records[cell] for run in self.runs if cell in run.manifest["cells"]]
        if len(found) != 1:
            where = self.runs[0].path / "manifest.json"
            raise ConfigError(f"{where}: cell {cell} in one shard, got it in {len(found)}; {EDITED}")
        return found[0]

    def _joined(self, planned: Planned, cells: list[PlannedCell]) -> list[Record]:
        """The records of a group whose prompts shards have shared."""
        owners = [run for run in self.runs if self._has_prompts(run, cells[0])]
        taken = [[self._taken(run, prepared) for prepared in cells] for run in owners]
        shared = self._shared([one.record for of_shard in taken for one in of_shard])
        return planned.kind.merged(cells, taken, shared, planned.repro(cells[0]), self.say)

    def _has_prompts(self, run: ShardRun, prepared: PlannedCell) -> bool:
        cell = prepared.cell
        first, _ = Shard(run.shard.number, run.shard.count).prompts(cell.group)
        return first < max(1, cell.prompts)

    def _taken(self, run: ShardRun, prepared: PlannedCell) -> Taken:
        cell = prepared.cell
        record, part = run.records.get(cell.key), run.parts.get(cell.key)
        prompts = None if part is None else part.prompts
        if record is None or part is None or prompts != cell.prompts:
            got = "none" if prompts is None else f"a share of {prompts}"
            raise ConfigError(
                f"merge: {run.name}'s share of the {cell.prompts} prompts that {cell.name} has here, got {got} in "
                f"{run.path}; give every shard, and this machine, the same files"
            )
        return Taken(record, [sample for sample in run.samples if sample.cell == cell.key], part)

    def _shared(self, records: Sequence[Record]) -> dict[str, Any]:
        """The fields that all records of a run carry, of those that went into one."""
        fields = {name: _one([getattr(record, name) for record in records]) for name in SHARED}
        began = min((record.started_at for record in records if record.started_at), default=None)
        return {"run": self.name, "started_at": began, **fields}


def _planned(run: ShardRun) -> Planned:
    """The whole run, planned again.

    Raises:
        ConfigError: it is not the one that began.
    """
    planned = plan_for(Options(**run.shard.options.model_dump()), run.manifest["environment"]["device"])
    here = measured(planned.suite.settings.model_dump(mode="json"), planned.whole)
    difference = first_difference(run.measured, here)
    if difference is not None:
        what, then, now = difference
        raise ConfigError(
            f"merge: {what} {then}, with which {run.path} began, got {now} here; merge where the suite's files are as "
            "they were"
        )
    return planned


def _manifest(runs: Sequence[ShardRun], name: str) -> dict[str, Any]:
    """As of one run, and the runs that it is made of."""
    first = runs[0].manifest
    options = Options(**runs[0].shard.options.model_dump())
    return {
        **{key: value for key, value in first.items() if key not in ("shard", "rank_files", "starts")},
        "run": name,
        "created_at": min(run.manifest["created_at"] for run in runs),
        "command": options.command(),
        "environment": _one([run.manifest["environment"] for run in runs]),
        "shards": {
            run.name: {key: run.manifest[key] for key in ("run", "created_at", "starts") if key in run.manifest}
            for run in runs
        },
        **runs[0].shard.whole,
    }


def _one(values: Sequence[Any]) -> Any:
    """What several machines say: the same, or all of it; null where that cannot be said."""
    different = [value for i, value in enumerate(values) if value not in values[:i]]
    if len(different) == 1:
        return different[0]
    if all(isinstance(value, dict) for value in different):
        keys = dict.fromkeys(key for value in different for key in value)
        return {key: _one([value[key] for value in values if key in value]) for key in keys}
    if any(value is True for value in different):
        return True
    texts = [value for value in different if isinstance(value, str)]
    return ", ".join(texts) or None
