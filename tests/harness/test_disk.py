"""A run whose disk is full, and one whose last line was cut: nothing finished is lost, `--resume` goes on."""

import os
import shlex
import subprocess
import sys

import pytest
from forked import forked

from pcbench.errors import DiskFull
from pcbench.harness.runner import run
from pcbench.plain_files import append_whole, write_whole
from pcbench.records import RunFolder, read_records

CHOSEN = ["--limit", "1", "--method", "full", "--device", "cpu"]
# the real command line under a limit of a file's size: what is beyond gives EFBIG
LIMITED = """
import resource, sys
from pcbench.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
main(sys.argv[2:])
"""


def resumed(error, out):
    """What the last line on stderr says how to go on with."""
    command = error.strip().splitlines()[-1].partition("make room and go on with: ")[2]
    words = shlex.split(command)
    assert words[:2] == ["pcbench", "run"]
    assert words[-3:] == ["--out", str(out), "--resume"]
    return words[1:]


def size_of_first_records(suite_file, tmp_path, console, options):
    """Bytes of records.jsonl after the first group."""
    folder, _ = run(options(out=tmp_path / "whole", limit=1, methods=["full"]), console)
    return folder.records.path.read_text().index("\n") + 1


def test_a_full_disk_ends_the_sweep_in_one_line_and_resume_repairs(suite_file, tmp_path, console, options):
    first = size_of_first_records(suite_file, tmp_path, console, options)
    out = tmp_path / "run"
    # room for the first group's record and half of the second's
    limit = str(first * 3 // 2)
    words = ["run", "--suite", str(suite_file), *CHOSEN, "--out", str(out)]
    # -B: no .pyc that the limit would cut
    program = [sys.executable, "-B", "-c", LIMITED, limit]
    done = subprocess.run([*program, *words], capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert f"{out}/records.jsonl: room on the disk, got File too large" in done.stderr.splitlines()[-1]
    folder = RunFolder(out)
    assert folder.records.path.read_bytes().endswith(b"\n")
    assert not list(out.glob("*.part"))
    (kept,) = folder.records.read()
    again = forked(["-m", "pcbench", *resumed(done.stderr, out)], tmp_path)
    assert again.returncode == 0, again.stderr
    records = read_records(out)
    assert records[0] == kept
    assert sorted(r.cell for r in records) == sorted(folder.manifest["cells"])
    assert len({(s.cell, s.id) for s in folder.samples.read()}) == len(folder.samples.read()) == 3


def test_a_file_system_without_room_is_a_full_disk(suite_file, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    # a file system of 16 KiB in a namespace of its own: the manifest fits, the records of three groups do not
    mount = f"mount -t tmpfs -o size=16k tmpfs {place}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("no namespaces to mount a small file system in")
    words = [sys.executable, "-m", "pcbench", "run", "--suite", str(suite_file), *CHOSEN, "--out", str(place / "run")]
    script = f"{mount} && {{ {shlex.join(words)}; code=$?; cp -r {place}/run {tmp_path}/copy; exit $code; }}"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stderr
    assert "room on the disk, got No space left on device; make room and go on with: pcbench run" in done.stderr
    copy = tmp_path / "copy"
    finished = read_records(copy)
    assert 1 <= len(finished) < 3
    words = ["-m", "pcbench", "run", "--suite", suite_file, *CHOSEN, "--out", copy, "--resume"]
    again = forked(words, tmp_path, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    records = read_records(copy)
    assert records[: len(finished)] == finished
    assert len(records) == 3


@pytest.mark.parametrize("cut", [b'{"schema":1,"model":"', "…".encode()[:2]], ids=["in a line", "in a letter"])
def test_a_cut_last_line_is_no_line_and_resume_repairs(finished, options, console, cut):
    lines = finished.records.path.read_bytes().splitlines(keepends=True)
    before = read_records(finished.path)[:3]
    finished.records.path.write_bytes(b"".join(lines[:3]) + lines[3][:20] + cut)
    assert [r.cell for r in read_records(finished.path)] == [r.cell for r in before]
    _, records = run(options(resume=True), console)
    assert records[:3] == before
    assert len(records) == len(lines)
    assert finished.records.path.read_bytes().count(b"\n") == len(lines)


class Full:
    """A file on a disk with little room."""

    def __init__(self, monkeypatch, room):
        self.room, real = room, os.fsync

        def fsync(number):
            if os.fstat(number).st_size > room:
                raise OSError(28, "No space left on device")
            real(number)

        monkeypatch.setattr(os, "fsync", fsync)


def test_append_whole_adds_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a"
    append_whole(path, "one\n")
    Full(monkeypatch, 10)
    append_whole(path, "two\n")
    with pytest.raises(DiskFull, match=r"/a: room on the disk, got No space left on device; make room$"):
        append_whole(path, "three and more\n")
    assert path.read_text() == "one\ntwo\n"


def test_write_whole_leaves_the_old_file_where_there_is_no_room(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_whole(path, "old")
    Full(monkeypatch, 10)
    with pytest.raises(DiskFull):
        write_whole(path, "new and longer")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_text() == "old"


def test_other_errors_of_a_disk_are_not_taken_for_a_full_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        append_whole(tmp_path / "missing" / "a", "x")
