"""Where a run may begin, and where `--resume` goes on: only with what would have been measured uninterrupted."""

import json
import os
from collections.abc import Mapping
from typing import Any

from pcbench.errors import ConfigError
from pcbench.records import RunFolder

__all__ = ["check_new", "check_same", "holds_run"]

# settings of a suite that change no number
UNMEASURED = {"timeout_s"}


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
