"""`--resume`: a run goes on only with what would have been measured without the interruption."""

import json
from collections.abc import Mapping
from typing import Any

from pcbench.errors import ConfigError
from pcbench.records import RunFolder

__all__ = ["check_same"]

# settings of a suite that change no number
UNMEASURED = {"timeout_s"}


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
    began = manifest["settings"]
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
