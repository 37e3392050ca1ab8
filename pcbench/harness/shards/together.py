"""Folders of shards as they are read, and whether they are all of one run."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcbench.config import validate
from pcbench.errors import ConfigError, DataMissing, shown
from pcbench.harness.resume import UNMEASURED
from pcbench.records import RunFolder, ShardOf, read_run
from pcbench.rows import EDITED
from pcbench.types import Part, Record, Sample

__all__ = ["ShardRun", "all_of_one_run", "first_difference", "measured"]

# of the environment: what decides a number whatever the machine
CODE = ("commit", "sources_sha256", "device")
# of a manifest: what merging reads
NEEDED = ("run", "created_at", "command", "settings", "environment", "cells")


@dataclass(frozen=True)
class ShardRun:
    """What the folder of a shard holds.

    Args:
        path: the folder; manifest: its manifest.json; shard: which part of what run.
        records, parts: by cell; samples: of all cells.
    """

    path: Path
    manifest: dict[str, Any]
    shard: ShardOf
    records: dict[str, Record]
    samples: list[Sample]
    parts: dict[str, Part]

    @classmethod
    def read(cls, path: Path) -> "ShardRun":
        """The folder at `path`.

        Raises:
            DataMissing: it holds no run.
            ConfigError: the run is no shard, or a file is not what a run writes.
        """
        manifest, records, samples = read_run(path)
        if manifest.get("shard") is None:
            raise ConfigError(
                f"merge: folders of pcbench run --shard, got {path} of a whole run; leave it out, or give it to "
                "pcbench report"
            )
        lacking = [name for name in NEEDED if name not in manifest]
        if lacking or "device" not in manifest["environment"]:
            where = f"{path / 'manifest.json'}: {(lacking or ['environment.device'])[0]}"
            raise ConfigError(f"{where}: a value is required, got none; {EDITED}")
        shard = validate(ShardOf, manifest["shard"], f"{path / 'manifest.json'}: shard", EDITED)
        parts = {part.cell: part for part in RunFolder(path).parts.read()}
        return cls(path, manifest, shard, {record.cell: record for record in records}, samples, parts)

    @property
    def name(self) -> str:
        return f"{self.shard.number}/{self.shard.count}"

    @property
    def measured(self) -> dict[str, Any]:
        """What the whole run measures."""
        return measured(self.manifest["settings"], self.shard.whole)

    def check_finished(self) -> None:
        """Refuses a shard that has not reached its end.

        Raises:
            ConfigError: with the command that goes on.
        """
        cells = self.manifest["cells"]
        found = sum(cell in self.records for cell in cells)
        if found < len(cells):
            raise ConfigError(
                f"merge: shards at their end, got {self.name} in {self.path} with {found} of {len(cells)} cells; go on "
                f"with: {self.manifest['command']} --out {shlex.quote(str(self.path))} --resume"
            )


def all_of_one_run(paths: Sequence[Path]) -> list[ShardRun]:
    """The shards of a run, by their numbers, each finished.

    Args:
        paths: their folders, in any order.

    Raises:
        DataMissing: no folder, or one without a run.
        ConfigError: they are of several runs, or not all of one.
    """
    if not paths:
        raise DataMissing("merge: the folders of all shards, got none; give those of --out")
    runs = [ShardRun.read(path) for path in paths]
    for run in runs[1:]:
        _check_pair(runs[0], run)
    by_number: dict[int, ShardRun] = {}
    for run in runs:
        other = by_number.setdefault(run.shard.number, run)
        if other is not run:
            raise ConfigError(f"merge: every shard once, got {run.name} in {other.path} and in {run.path}; drop one")
    count = runs[0].shard.count
    missing = [f"{number}/{count}" for number in range(1, count + 1) if number not in by_number]
    if missing:
        raise ConfigError(f"merge: all {count} shards, got none of {', '.join(missing)}; give that folder, too")
    ordered = [by_number[number] for number in sorted(by_number)]
    for run in ordered:
        run.check_finished()
    return ordered


def _check_pair(one: ShardRun, other: ShardRun) -> None:
    facts = [_facts(run) for run in (one, other)]
    difference = first_difference(*facts)
    if difference is not None:
        what, first, second = difference
        raise ConfigError(
            f"merge: shards of one run, got {what} {first} in {one.path} and {second} in {other.path}; give those of "
            "one run"
        )


def _facts(run: ShardRun) -> dict[str, Any]:
    """What shards of one run have in common, in the order in which it is told."""
    manifest = run.manifest
    environment = manifest["environment"]
    brought = environment.get("extensions") or {}
    return {
        "suite": manifest.get("suite"),
        "shards": run.shard.count,
        **run.measured,
        "model": manifest.get("model"),
        **{name: environment.get(name) for name in CODE},
        # a shard names those of its own groups
        **{f"{what} of": source for what, source in brought.items()},
    }


def measured(settings: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    """What a run measures, by the names in which it is told.

    Args:
        settings: of the suite; whole: what `Kind.fixed` says.
    """
    of_suite = {f"suite.{key}": value for key, value in settings.items() if key not in UNMEASURED}
    return of_suite | {f"the suite's {key}": value for key, value in sorted(whole.items())}


def first_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """The first key whose values differ, and both as JSON; keys that one of them lacks do not count."""
    for key, value in one.items():
        if key in other and other[key] != value:
            return key, _shown(value), _shown(other[key])
    return None


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return shown(text)[1:-1] if len(text) > 80 else text
