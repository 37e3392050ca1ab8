"""What an edited manifest does to `--resume`."""

import pytest

from pcbench.errors import ConfigError
from pcbench.harness.resume import check_same
from pcbench.records import RunFolder


def test_check_same_names_what_a_manifest_does_not_say(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_manifest({"schema": 1, "run": "r"})
    with pytest.raises(
        ConfigError, match=r"^--resume: suite.seed = null, with which .* began, got 3; see manifest.json$"
    ):
        check_same(folder, {"seed": 3}, {})
    with pytest.raises(ConfigError, match=r"^--resume: the command that began .*, got one with other cells; "):
        check_same(folder, {}, {"cells": ["a"]})
