import shutil
from dataclasses import replace

import pytest
import torch
from harness_suite import SUITE

from pcbench import registry
from pcbench.harness.kinds.methods import kind, session
from pcbench.harness.runner import Options, run
from pcbench.records import RunFolder


@pytest.fixture
def suite_file(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture
def options(suite_file, tmp_path):
    return lambda **changes: Options(**(dict(suite=str(suite_file), device="cpu", out=tmp_path / "run") | changes))


@pytest.fixture
def one_thread():
    """As in the processes that a test starts: sums of other threads differ in their last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory, console):
    """The whole suite, measured once."""
    place = tmp_path_factory.mktemp("finished")
    path = place / "small.toml"
    path.write_text(SUITE)
    folder, _ = run(Options(suite=str(path), device="cpu", out=place / "run"), console)
    return folder


@pytest.fixture
def finished(finished_once, tmp_path):
    """A finished run in `options().out`, to be read or changed."""
    shutil.copytree(finished_once.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture
def broken(suite_file, monkeypatch):
    """Adds a cell whose method goes wrong."""
    monkeypatch.setitem(registry.METHODS, "broken", "tiny:Broken")

    def add(how, above=0):
        config = f'how = "{how}"\nabove = {above}\npid_file = "{suite_file.parent / "pid"}"\n'
        text = f'[[cell]]\nmethod = "broken"\nbackend = "reference"\n[cell.config]\n{config}'
        suite_file.write_text(suite_file.read_text() + text)

    return add


@pytest.fixture
def trained(monkeypatch):
    """The tiny model's answers count, as if somebody had trained it."""
    real_spec, real_load = kind.model_spec, session.load_runner

    def load(*args, **more):
        found = real_load(*args, **more)
        return replace(found, spec=replace(found.spec, trained=True))

    monkeypatch.setattr(kind, "model_spec", lambda name: replace(real_spec(name), trained=True))
    monkeypatch.setattr(session, "load_runner", load)
