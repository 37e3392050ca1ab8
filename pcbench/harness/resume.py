"""Where a run may begin, and where `--resume` goes on: only with what would have been measured uninterrupted."""

import json
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pcbench import ops
from pcbench.errors import ConfigError
from pcbench.harness.brought import Brought, brought, check_brought
from pcbench.harness.options import Options
from pcbench.harness.plan import Planned
from pcbench.harness.processes import followers, ranks
from pcbench.harness.processes.lock import locked
from pcbench.harness.shards.shard import Shard
from pcbench.measure.machine.environment import environment
from pcbench.records import Asked, RunFolder
from pcbench.types import SCHEMA

__all__ = ["add_start", "check_same", "end_start", "open_folder"]

# settings of a suite that change no number
UNMEASURED = {"timeout_s", "engine_timeout_s"}


def open_folder(planned: Planned, held: ExitStack) -> tuple[Path, set[str]]:
    """The run's folder with its manifest, which is its own while `held`, and the groups that are finished in it.

    Raises:
        ConfigError: it cannot be written, belongs to somebody else, or --resume would measure something else.
    """
    options = planned.options
    of_others = brought(planned.suite.settings.kind, [prepared.cell for prepared in planned.cells])
    name = f"{planned.suite.name}_{planned.device}_{time.strftime('%Y%m%d-%H%M%S')}"
    if options.shard is not None:
        # shards of an array begin in the same second
        name += f"_{options.shard.number}of{options.shard.count}"
    folder = RunFolder(options.out or Path("reports") / "runs" / name)
    if options.resume and not holds_run(folder):
        raise ConfigError(f"--resume: --out with the folder of an interrupted run, got {folder.path}; name it")
    try:
        if not options.resume:
            folder.create()
        held.enter_context(locked(folder.path, lambda: options.resume or check_new(folder, ranks.ranks())))
        if not options.resume:
            folder.write_manifest(_manifest(planned, options.out.name if options.out else name, of_others))
            return folder.path, set()
    except OSError as error:
        said = f"--out: a folder to write in, got {folder.path}: {error.strerror}; choose another"
        raise ConfigError(said) from error
    return folder.path, _go_on(planned, folder, of_others)


def add_start(folder: RunFolder, seconds: float, busy: str | None) -> None:
    """Adds this start to the manifest: what it is estimated to take, and whether the machine is busy."""
    start = {"at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "estimated_s": round(seconds, 1), "took_s": None, "busy": busy}
    manifest = folder.manifest
    folder.write_manifest(manifest | {"starts": [*manifest.get("starts", []), start]})


def end_start(folder: RunFolder, seconds: float) -> None:
    """Says of the last start what it took; one that was interrupted has nothing there."""
    manifest = folder.manifest
    *before, start = manifest["starts"]
    folder.write_manifest(manifest | {"starts": [*before, start | {"took_s": round(seconds, 1)}]})


def _manifest(planned: Planned, name: str, of_others: Brought) -> dict[str, Any]:
    kind = planned.kind
    return {
        "schema": SCHEMA,
        "run": name,
        "suite": planned.suite.name,
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": planned.options.command(),
        "options": _asked(planned.options),
        "settings": planned.suite.settings.model_dump(mode="json"),
        "model": asdict(kind.spec) if kind.spec else None,
        "environment": {**environment(planned.device), "extensions": of_others},
        "builds": {name: ops.why_not(name) or "available" for name in ("cpu", "cuda", "hip", "triton")},
        **({"shard": _shard(planned)} if planned.options.shard else {}),
        **kind.fixed(),
    }


def _shard(planned: Planned) -> dict[str, Any]:
    """What makes the shards of a run one run again, as `ShardOf` says."""
    options, shard = planned.options, planned.options.shard
    assert shard is not None
    return {"number": shard.number, "count": shard.count, "options": _asked(options), "whole": planned.whole}


def _asked(options: Options) -> dict[str, Any]:
    """What of a command line says what is measured."""
    return {name: value for name in Asked.model_fields if (value := getattr(options, name))}


def _go_on(planned: Planned, folder: RunFolder, of_others: Brought) -> set[str]:
    """Makes the folder of an interrupted run ready to go on; the groups that are finished in it."""
    _check_shard(folder, planned.options.shard)
    check_same(folder, planned.suite.settings.model_dump(mode="json"), planned.kind.fixed())
    manifest = folder.manifest
    check_brought(of_others, manifest, folder.path)
    began = manifest.get("environment", {}).get("ranks")
    followers.check_resumed(planned.cells, began, folder.path)
    keys = [prepared.cell.key for prepared in planned.cells]
    folder.arrange(keys, manifest.get("rank_files", began or 1))
    if ranks.ranks() != manifest.get("rank_files", began):
        folder.write_manifest(manifest | {"rank_files": ranks.ranks()})
    done = _finished(planned, folder)
    folder.keep_groups(done, keys if planned.kind.by_prompt else ())
    return done


def _check_shard(folder: RunFolder, shard: Shard | None) -> None:
    """Refuses to go on with another part of a run."""
    found = folder.manifest.get("shard")
    began, now = f"{found['number']}/{found['count']}" if found else "1/1", str(shard or "1/1")
    if began != now:
        raise ConfigError(f"--resume: --shard {began}, with which {folder.path} began, got {now}; add --shard {began}")


def _finished(planned: Planned, folder: RunFolder) -> set[str]:
    """Groups whose every cell has a record that need not be taken again."""
    latest = {record.cell: record for record in folder.records.read()}
    done = set()
    for cells in planned.groups():
        records = [latest.get(prepared.cell.key) for prepared in cells]
        if all(record is not None and planned.kind.is_finished(record) for record in records):
            done.add(cells[0].cell.group)
    return done


def holds_run(folder: RunFolder) -> bool:
    """Whether a run has begun there; False too where nobody may look, or can."""
    return os.path.isfile(folder.path / "manifest.json")


def check_new(folder: RunFolder, ranks: int) -> None:
    """Refuses to begin a run where one of its files is.

    Raises:
        ConfigError: names a run, or a file that is somebody else's.
    """
    if holds_run(folder):
        raise ConfigError(f"--out: a new folder, got {folder.path} with a run in it; add --resume or choose another")
    if (taken := folder.taken(ranks)) is not None:
        raise ConfigError(f"--out: a new folder, got {folder.path} with {taken} in it; choose another")


def check_same(folder: RunFolder, settings: Mapping[str, Any], planned: Mapping[str, Any]) -> None:
    """Refuses to go on with what would measure something else.

    Args:
        folder: of the run that was interrupted.
        settings: of the suite now, as the manifest has them.
        planned: what else of the manifest must be the same.

    Raises:
        ConfigError: names the first difference.
    """
    manifest = folder.manifest
    began = manifest.get("settings", {})
    for key in sorted((settings.keys() | began.keys()) - UNMEASURED):
        if began.get(key) != settings.get(key):
            was, now = (json.dumps(table.get(key)) for table in (began, settings))
            raise ConfigError(
                f"--resume: suite.{key} = {was}, with which {folder.path} began, got {now}; see manifest.json"
            )
    for what, now in planned.items():
        if manifest.get(what) != now:
            raise ConfigError(
                f"--resume: the command that began {folder.path}, got one with other {what}; see manifest.json"
            )
