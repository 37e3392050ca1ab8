"""A run as a data set: a folder with a card, the formats and the files, each line read and written anew."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pcbench.errors import ConfigError, DataMissing
from pcbench.plain_files import write_for
from pcbench.records import RunFolder, read_run
from pcbench.report.reading.runs import read_runs
from pcbench.sharing.card import card
from pcbench.sharing.schema import FILES, schema

__all__ = ["CARD", "names", "publish", "revealing"]

CARD = "README.md"
SCHEMAS = {name: f"schema/{name}.json" for name in FILES}


def names() -> list[str]:
    """The files of a data set, as paths in its folder."""
    return [CARD, *FILES.values(), *SCHEMAS.values()]


def publish(run: Path, out: Path) -> bool:
    """Writes the data set of a finished run. It is a run's folder, too: whatever reads runs reads it.

    Args:
        run: the run's folder.
        out: the data set's. Files of an earlier one are written anew but for the card, which people edit.

    Returns:
        Whether the card was there and stayed.

    Raises:
        DataMissing: there is no run, or no record in it.
        ConfigError: it is not finished, or not what pcbench writes; or the folder holds something else, or cannot be
            written.
        DiskFull: there is no room.
    """
    manifest, records, samples = read_run(run)
    (shown,) = read_runs([run])
    if not records:
        raise DataMissing(f"publish: a run with records, got {run} without one; measure it first")
    if shown.missing:
        got = f"{run} without {shown.missing} of its {len(shown.planned)} cells"
        raise ConfigError(f"publish: a finished run, got {got}; go on with it by pcbench run --resume")
    _check(out, manifest)
    try:
        (out / "schema").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        got = error.strerror or str(error)
        raise ConfigError(f"--out: a folder that can be made, got {out}: {got}; choose another") from None
    folder = RunFolder(out)
    folder.records.replace(records)
    folder.samples.replace(samples)
    folder.write_manifest(manifest)
    for name, path in SCHEMAS.items():
        write_for("--out", out / path, json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n")
    stays = (out / CARD).exists()
    if not stays:
        write_for("--out", out / CARD, card(shown, samples))
    return stays


def _check(out: Path, manifest: Mapping[str, Any]) -> None:
    """Refuses a folder of something else, and of another run, whose card would stay."""
    known = {Path(name).parts[0] for name in names()}
    found = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if other := [name for name in found if name not in known]:
        raise ConfigError(f"--out: a new folder or that of a data set, got {out} with {other[0]} in it; choose another")
    if "manifest.json" in found:
        there = RunFolder(out).manifest
        if any(there.get(key) != manifest.get(key) for key in ("run", "created_at")):
            raise ConfigError(f"--out: a new folder or that of this run, got {out} of {there['run']}; choose another")


def revealing(out: Path) -> Iterator[str]:
    """A line for each file that names a person's folder on this machine, for eyes before it leaves."""
    home = str(Path.home())
    for name in names():
        text = (out / name).read_text(encoding="utf-8")
        if len(home) > 1 and (count := text.count(home)):
            yield f"{out / name} names {home} {count}×; look whether others may see that"
