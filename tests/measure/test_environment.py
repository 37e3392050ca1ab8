import json

import pytest
import torch

from pcbench.measure import environment as module
from pcbench.measure.environment import commit, environment, provenance


@pytest.fixture
def outside_git(monkeypatch, tmp_path):
    """The package as if it were installed: no repository around it."""
    package = tmp_path / "pcbench"
    package.mkdir()
    (package / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(module, "PACKAGE", package)
    for name in ("PCBENCH_COMMIT", "PCBENCH_DIRTY", "PCBENCH_SOURCES"):
        monkeypatch.delenv(name, raising=False)
    caches = (commit, module._sources_sha256)
    for cached in caches:
        cached.cache_clear()
    yield package
    for cached in caches:
        cached.cache_clear()


def test_environment_is_json_and_names_what_matters(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    here = json.loads(json.dumps(environment("cpu")))
    assert here["torch"] == torch.__version__
    assert here["threads"] == torch.get_num_threads()
    assert here["memory_bytes"] > 0
    assert here["gpu"] is None
    assert set(provenance("cpu")) <= set(here)
    assert here["ranks"] == 1
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert environment("cpu")["ranks"] == 3


def test_without_git_or_variables_there_is_no_commit(outside_git):
    assert commit() == {"commit": None, "dirty": None, "from": "none"}


@pytest.mark.parametrize(("dirty", "value"), [("false", False), ("true", True), (None, True)])
def test_without_git_the_variables_name_the_commit(outside_git, monkeypatch, dirty, value):
    monkeypatch.setenv("PCBENCH_COMMIT", "abc")
    if dirty is not None:
        monkeypatch.setenv("PCBENCH_DIRTY", dirty)
    assert commit() == {"commit": "abc", "dirty": value, "from": "environment"}


def test_other_sources_than_the_commits_are_dirty(outside_git, monkeypatch):
    monkeypatch.setenv("PCBENCH_COMMIT", "abc")
    monkeypatch.setenv("PCBENCH_DIRTY", "false")
    monkeypatch.setenv("PCBENCH_SOURCES", module._sources_sha256())
    assert commit()["dirty"] is False
    (outside_git / "a.py").write_text("x = 2\n")
    commit.cache_clear()
    module._sources_sha256.cache_clear()
    assert commit()["dirty"] is True
