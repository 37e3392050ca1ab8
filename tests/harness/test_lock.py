"""One run a folder, and what becomes of a run whose folder changes under it; real processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress

import psutil
import pytest
from forked import begun
from harness_suite import ACCURACY
from stopped import stopped

from pcbench.errors import ConfigError, FolderLost
from pcbench.harness.processes.lock import NAME, joined_in, locked
from pcbench.harness.runner import Options, run
from pcbench.records import Lines, RunFolder

HOLD = """
import sys, time
from pathlib import Path
from pcbench.harness.processes.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path`."""
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_held_folder_names_its_holder_and_is_free_when_it_was_killed(holder, tmp_path):
    with pytest.raises(ConfigError, match=rf"got {tmp_path}, which process {holder.pid} on .+ holds; wait for it or"):
        locked(tmp_path).__enter__()
    holder.kill()
    holder.wait()
    assert (tmp_path / NAME).exists()
    with locked(tmp_path):
        assert (tmp_path / NAME).read_text().startswith(f"pcbench run: process {os.getpid()} on ")
    assert list(tmp_path.iterdir()) == []


def test_a_held_folder_stays_held_when_its_file_is_removed(holder, tmp_path):
    (tmp_path / NAME).unlink()
    with pytest.raises(ConfigError, match=f"got {tmp_path}, which another process holds; wait for it or"):
        locked(tmp_path).__enter__()


def test_a_holder_removes_no_file_of_another(tmp_path):
    with locked(tmp_path):
        (tmp_path / NAME).unlink()
        (tmp_path / NAME).write_text("mine")
    assert (tmp_path / NAME).read_text() == "mine"


def test_a_folder_is_held_until_its_last_rank_has_ended(tmp_path):
    with ExitStack() as ranks:
        with locked(tmp_path):
            ranks.enter_context(joined_in(tmp_path))
        with pytest.raises(ConfigError, match="which another process holds; wait for it or"):
            locked(tmp_path).__enter__()
    with locked(tmp_path):
        pass


def test_a_check_that_refuses_comes_before_anything_is_written(tmp_path):
    def refuse():
        assert list(tmp_path.iterdir()) == []
        raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"), locked(tmp_path, refuse):
        pass
    assert list(tmp_path.iterdir()) == []


def test_children_do_not_inherit_the_lock(tmp_path):
    with locked(tmp_path):
        child = subprocess.Popen(["sleep", "600"])
    try:
        with locked(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("elsewhere"), lambda path: path.write_text("mine")]
)
def test_a_file_that_is_of_no_run_is_neither_opened_nor_replaced(tmp_path, make):
    make(tmp_path / NAME)
    before = (tmp_path / NAME).lstat()
    with pytest.raises(ConfigError, match=rf"--out: a folder whose {NAME} is of a run, got another "):
        locked(tmp_path).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert (tmp_path / NAME).lstat() == before


@pytest.mark.parametrize("refused", [False, True])
def test_a_run_leaves_a_lock_of_the_users(options, console, tmp_path, refused):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").write_text("mine")
    if refused:
        (tmp_path / "run" / "manifest.json").write_text("{}")
        with pytest.raises(ConfigError, match="with a run in it"):
            run(options(), console)
    else:
        run(options(limit=1), console)
    assert (tmp_path / "run" / ".lock").read_text() == "mine"


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_does_not_begin_in_a_held_folder(holder, finished, options, console, resume):
    # `finished` and the holder share `tmp_path`
    os.rename(finished.path, finished.path.with_name("before"))
    os.symlink(finished.path.parent, finished.path)
    shutil.copy(finished.path / "before" / "manifest.json", finished.path)
    with pytest.raises(ConfigError, match=f"got {finished.path}, which process {holder.pid} on "):
        run(options(resume=resume), console)


def test_a_run_holds_its_folder_while_it_measures(tmp_path, console):
    path = tmp_path / "small.toml"
    path.write_text(ACCURACY)
    folder = RunFolder(tmp_path / "run")
    words = ["run", "--suite", path, "--device", "cpu", "--limit", "1", "--out", folder.path]
    # it stops itself at every sample from the second on
    printed = [tmp_path / "out", tmp_path / "err"]
    first = begun([*stopped(signal.SIGSTOP, folder.samples.path, 2), *words], printed)
    while psutil.Process(first.pid).status() != psutil.STATUS_STOPPED:
        assert first.exitcode is None, printed[1].read_text()
        time.sleep(0.02)
    before = folder.samples.read()
    with pytest.raises(ConfigError, match=f"got {folder.path}, which process {first.pid} on "):
        run(Options(suite=str(path), device="cpu", limit=1, out=folder.path, resume=True), console)
    assert folder.samples.read() == before
    while first.exitcode is None:
        with suppress(ProcessLookupError):
            os.kill(first.pid, signal.SIGCONT)
        time.sleep(0.02)
    assert first.exitcode == 0
    answered = [(s.cell, s.id) for s in folder.samples.read()]
    assert len(answered) == len(set(answered)) == 4


def test_resume_leaves_what_is_the_users(finished, options, console):
    mine = finished.path / "records.backup.jsonl"
    mine.write_text("{}\n")
    run(options(resume=True), console)
    assert mine.read_text() == "{}\n"


@pytest.mark.parametrize("name", ["records.jsonl", "samples.jsonl", "records.csv", "report.html"])
def test_a_new_run_does_not_write_into_the_users_files(options, console, tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("mine")
    with pytest.raises(
        ConfigError, match=rf"--out: a new folder, got {tmp_path}/run with {name} in it; choose another"
    ):
        run(options(), console)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [name]


def test_a_run_whose_folder_vanishes_ends_in_one_line(options, console, tmp_path, monkeypatch):
    append = Lines.append

    def and_vanish(lines, rows):
        append(lines, rows)
        if lines.path.name == "records.jsonl":
            shutil.rmtree(tmp_path / "run")

    monkeypatch.setattr(Lines, "append", and_vanish)
    with pytest.raises(FolderLost, match=r"run: to stay and .*, got No such file or directory; where it takes files"):
        run(options(limit=1), console)


def test_more_ranks_than_before_are_taken_in_by_the_next_resume(finished, options, console, monkeypatch):
    """Of a run that went on with three ranks, all of which were killed."""
    finished.write_manifest(finished.manifest | {"rank_files": 3})
    samples = finished.samples.read()
    finished.samples.replace(samples[:1])
    RunFolder(finished.path, 2).samples.append(samples[1:])
    run(options(resume=True), console)
    assert sorted(map(repr, finished.samples.read())) == sorted(map(repr, samples))
    assert finished.manifest["rank_files"] == 1
    assert not RunFolder(finished.path, 2).samples.path.exists()
