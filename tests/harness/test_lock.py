"""One run a folder, and what becomes of a run whose folder changes under it; real processes."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from harness_suite import ACCURACY
from stopped import stopped

from pcbench.errors import ConfigError, FolderLost
from pcbench.harness.lock import locked
from pcbench.harness.runner import Options, run
from pcbench.records import Lines, RunFolder

HOLD = """
import sys, time
from pathlib import Path
from pcbench.harness.lock import locked
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
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
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


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("elsewhere")])
def test_a_lock_that_is_no_plain_file_is_not_opened(tmp_path, make):
    make(tmp_path / ".lock")
    with pytest.raises((ConfigError, OSError), match=r".lock"):
        locked(tmp_path).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


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
    first = subprocess.Popen([sys.executable, *stopped(signal.SIGSTOP, folder.samples.path, 2), *words])
    assert os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT).si_code == os.CLD_STOPPED
    before = folder.samples.read()
    with pytest.raises(ConfigError, match=f"got {folder.path}, which process {first.pid} on "):
        run(Options(suite=str(path), device="cpu", limit=1, out=folder.path, resume=True), console)
    assert folder.samples.read() == before
    while first.poll() is None:
        first.send_signal(signal.SIGCONT)
        time.sleep(0.02)
    assert first.returncode == 0
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
