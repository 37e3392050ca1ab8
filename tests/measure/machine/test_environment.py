import json
import sys

import pytest
import torch

from pcbench.measure.machine import environment as module
from pcbench.measure.machine.environment import commit, environment, provenance
from pcbench.ops.isa import cpu_isa
from pcbench.ops.libraries import why_not


@pytest.fixture
def outside_git(monkeypatch, tmp_path):
    """The package as if it were installed: no repository around it."""
    package = tmp_path / "pcbench"
    package.mkdir()
    (package / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(module, "PACKAGE", package)
    for name in ("PCBENCH_COMMIT", "PCBENCH_DIRTY", "PCBENCH_SOURCES"):
        monkeypatch.delenv(name, raising=False)
    caches = (commit, module.sources_sha256)
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
    assert here["cpu_isa"] == (cpu_isa() if why_not("cpu") is None else None)
    assert set(provenance("cpu")) <= set(here)
    assert here["ranks"] == 1
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert environment("cpu")["ranks"] == 3


def test_kvpress_has_its_version_where_it_is_installed_and_is_not_imported(tmp_path, monkeypatch):
    metadata = tmp_path / "kvpress-9.8.7.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: kvpress\nVersion: 9.8.7\n")
    imported = "kvpress" in sys.modules
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        assert environment("cpu")["packages"]["kvpress"] == "9.8.7"
    assert ("kvpress" in sys.modules) == imported
    monkeypatch.setattr(module, "OPTIONAL", ("no-such-package",))
    assert list(environment("cpu")["packages"]) == ["torch", "transformers", "numpy", "pcbench"]


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
    monkeypatch.setenv("PCBENCH_SOURCES", module.sources_sha256())
    assert commit()["dirty"] is False
    (outside_git / "a.py").write_text("x = 2\n")
    commit.cache_clear()
    module.sources_sha256.cache_clear()
    assert commit()["dirty"] is True


@pytest.fixture
def source_tree(outside_git):
    """The folder around the package, with what is built and run beside it."""
    root = outside_git.parent
    for name in (*KERNELS_AND_SUITES, "ext/schema.cpp", "tools/__pycache__/a.pyc", "reports/a.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("1\n")
    return root


KERNELS_AND_SUITES = ("ext/cuda/a.cu", "ext/device/b.h", "suites/kernels.toml", "CMakeLists.txt", "tools/gpu_check.sh")


def hash_now():
    module.sources_sha256.cache_clear()
    return module.sources_sha256()


@pytest.mark.parametrize("name", [*KERNELS_AND_SUITES, "pcbench/a.py"])
def test_sources_sha256_sees_kernels_and_suites(source_tree, name):
    before = hash_now()
    assert hash_now() == before
    (source_tree / name).write_text("2\n")
    changed = hash_now()
    assert changed != before
    (source_tree / name).rename(source_tree / f"{name[:-1]}x{name[-1]}")
    assert hash_now() != changed


def test_sources_sha256_leaves_out_what_decides_no_number(source_tree):
    before = hash_now()
    for name in ("tools/__pycache__/a.pyc", "reports/a.md"):
        (source_tree / name).write_text("2\n")
    assert hash_now() == before


def test_sources_sha256_of_an_installed_package_leaves_out_its_neighbours(outside_git):
    before = hash_now()
    (outside_git.parent / "tools").mkdir()
    (outside_git.parent / "tools/a.py").write_text("")
    assert hash_now() == before


def test_sources_sha256_holds_every_tracked_source(monkeypatch):
    """Every kernel, suite, tool and build file that git knows is in one of the patterns."""
    root = module.PACKAGE.parent
    found = {str(path.relative_to(root)) for pattern in module.BESIDE for path in root.glob(pattern)}
    tracked = module._git(
        root, "ls-files", "ext", "suites", "tools", "build_backend", "CMakeLists.txt", "pyproject.toml"
    )
    if not tracked:
        pytest.skip("not a git checkout")
    assert {*tracked.splitlines()} <= found
