"""Variables and folders that make no sense: one line that names what helps, or it simply works."""

import os
import pwd
import subprocess
import sys

import pytest
from harness_suite import SUITE

from pcbench.errors import ConfigError
from pcbench.harness.processes import ranks
from pcbench.records import read_records
from pcbench.system.surroundings import cache_folder, expanded, whole_number
from pcbench.tasks.files import data_dir

PROGRAM = [sys.executable, "-m", "pcbench"]


@pytest.mark.parametrize("text", ["x", "", "-1", "1.5", "²", "1e3", "9" * 5000, "0x1", "8", "1\n2"])
def test_a_number_that_is_none_names_its_variable(monkeypatch, text):
    monkeypatch.setenv("NUMBER", text)
    with pytest.raises(ConfigError, match=r"^NUMBER: a whole number in 0\.\.7, got '.*'; torchrun sets it, without"):
        whole_number("NUMBER", 3, most=7)


def test_a_number_is_read_or_its_default_taken(monkeypatch):
    assert whole_number("NUMBER", 3) == 3
    monkeypatch.setenv("NUMBER", " 7 ")
    assert whole_number("NUMBER", 3) == 7


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"RANK": "x"}, "RANK: a whole number in 0..0"),
        ({"RANK": "1"}, "RANK: a whole number in 0..0"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK: a whole number in 0..1"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE: a whole number in 1..1000000"),
        ({"WORLD_SIZE": "2"}, "RANK: set, with WORLD_SIZE 2, got nothing"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR: set, with WORLD_SIZE 2, got nothing"),
        (
            {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "65536"},
            "MASTER_PORT: a whole number in 0..65535",
        ),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "2"}, "LOCAL_RANK: a whole number in 0..1"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_WORLD_SIZE": "3"}, "LOCAL_WORLD_SIZE: a whole number in 1..2"),
    ],
)
def test_ranks_that_make_no_sense_are_one_line(monkeypatch, variables, named):
    for name in ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "CUDA_VISIBLE_DEVICES"):
        # set first, so that what is set within is taken back after the test
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as error, ranks.joined():
        pass
    assert str(error.value).startswith(named)


@pytest.fixture
def homeless(monkeypatch):
    """As in a container whose user the system does not know."""

    def unknown(_):
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.parametrize("cache", [None, "", "relative"])
def test_without_a_home_folder_the_line_names_what_helps(homeless, monkeypatch, cache):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if cache is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
    with pytest.raises(ConfigError, match=r"^HOME: a folder, got '~', whose home folder is unknown; set HOME, or name"):
        cache_folder("data")


def test_folders_that_are_named_need_no_home(homeless, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("models") == tmp_path / "pcbench" / "models"
    monkeypatch.setenv("PCBENCH_DATA", str(tmp_path / "data"))
    assert data_dir() == tmp_path / "data"


@pytest.mark.parametrize("folder", ["~nobody-of-this-name/x", "x" * 300, "a\0b"])
def test_a_folder_that_cannot_be_one_is_one_line(folder):
    with pytest.raises(ConfigError, match=r"^PCBENCH_DATA: a folder, got '.*; (set HOME|name another)"):
        expanded(folder, "PCBENCH_DATA")


def test_a_working_folder_that_was_removed_is_one_line(tmp_path):
    script = f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; exec {sys.executable} -m pcbench list"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("pcbench: a working folder, got one that was removed (No such file or directory); ")


@pytest.mark.parametrize("make", ["lines.linewidth: 99\nno sense\n", b"\xff\xfe\x00", None])
def test_figures_are_drawn_by_no_settings_of_the_working_folder(tmp_path, make):
    settings = tmp_path / "matplotlibrc"
    if make is None:
        # nobody writes to it, so who reads it waits
        os.mkfifo(settings)
    else:
        settings.write_bytes(make if isinstance(make, bytes) else make.encode())
    code = "import pcbench.report, matplotlib; print(matplotlib.rcParams['lines.linewidth'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr) == ("1.5\n", "")


def test_a_run_in_hostile_surroundings_is_whole(tmp_path):
    (tmp_path / "matplotlibrc").write_text("no sense")
    (tmp_path / "small.toml").write_text(SUITE)
    long = tmp_path / ("t" * 170)
    long.mkdir()
    (tmp_path / "file").touch()
    hostile = {
        "TMPDIR": str(long),
        "HOME": str(tmp_path / "file"),
        "COLUMNS": "0",
        "LINES": "x",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii",
        "OMP_NUM_THREADS": "abc",
        "XDG_CACHE_HOME": "relative",
        "PCBENCH_DATA": str(tmp_path / "file"),
        "PYTHONWARNINGS": "ignore",
    }
    words = ["run", "--suite", "small.toml", "--device", "cpu", "--limit", "1", "--method", "full", "--out", "run"]
    done = subprocess.run([*PROGRAM, *words], env=os.environ | hostile, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "3 ok\nrun/report.html\n"), done.stderr
    known = ("[", "libgomp: ", "OMP: ", "3 cells, about ", "this machine is busy")
    assert all(line.startswith(known) or not line for line in done.stderr.splitlines())
    records = read_records(tmp_path / "run")
    assert [record.peak_bytes is not None for record in records if record.ms_p50 is not None] == [True, True]
    assert not [text for record in records for text in record.warnings if "peak" in text]
