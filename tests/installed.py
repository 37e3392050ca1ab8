"""Packages beside pcbench, as installers leave them: modules and the metadata that name their entry points."""

import sys

import pytest

from pcbench import registry
from pcbench.extensions import extensions


def installs(site, package, points, files=(), version="1.0"):
    """Leaves in a folder of packages what an installer would.

    Args:
        site: the folder.
        package: its name on an index.
        points: group → name → place.
        files: path → text.
    """
    metadata = site / f"{package.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    lines = [
        f"[pcbench.{group}]\n" + "".join(f"{n} = {p}\n" for n, p in named.items()) for group, named in points.items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    for path, text in dict(files).items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)


def forget():
    """What this process has read of installed packages."""
    extensions.cache_clear()
    for tables in (registry.task_tables(), registry.model_tables()):
        tables.read.clear()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs packages for one test: `installs` without its folder."""
    site, loaded = tmp_path / "site", set(sys.modules)
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def run(*arguments, **more):
        installs(site, *arguments, **more)
        forget()

    yield run
    monkeypatch.undo()
    for name in set(sys.modules) - loaded:
        if str(site) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    forget()
