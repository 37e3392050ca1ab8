"""stdout and stderr that nobody reads, that are full or closed; the real program."""

import os
import subprocess
import sys

import pytest
from harness_suite import SUITE

from pcbench.records import read_records

PROGRAM = [sys.executable, "-m", "pcbench"]
FULL = "stdout: a place that takes what is printed, got No space left on device; print elsewhere\n"


def through_shell(line, *arguments, **more):
    """Runs a line of the shell in which "$@" is the program with these arguments."""
    words = ["sh", "-c", line, "sh", *PROGRAM, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, **more)


@pytest.mark.parametrize(
    ("line", "arguments", "said"),
    [
        *(('"$@" > /dev/full', words, FULL) for words in (["list", "methods"], ["--help"], ["data", "list"])),
        ('"$@" >&-', ["list", "--json"], FULL.replace("No space left on device", "Bad file descriptor")),
        ('"$@" 2>&- >&-', ["list", "--json"], ""),
        ('"$@" 2>&- >&-', ["--help"], ""),
        ('"$@" 2> /dev/full > /dev/full', ["list", "--json"], ""),
    ],
)
def test_a_stdout_that_takes_nothing_is_one_line_and_exit_1(line, arguments, said):
    done = through_shell(line, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


# leaves what the first three descriptors are where the command line begins
OPENED = """
import os, sys, types
from pcbench.__main__ import main
look = lambda: open(sys.argv[1], "w").write(" ".join(os.readlink(f"/proc/self/fd/{i}") for i in range(3)))
sys.modules["pcbench.cli"] = types.SimpleNamespace(main=look)
main()
"""


def test_nothing_that_the_program_opens_becomes_a_closed_stream(tmp_path):
    words = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", OPENED, tmp_path / "found"]
    assert subprocess.run(words).returncode == 0
    assert (tmp_path / "found").read_text().split() == [os.devnull] * 3


def test_a_reader_that_has_gone_ends_the_program_without_a_word():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*PROGRAM, "list", "methods"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("line", ['"$@" 2>&-', '"$@" 2> /dev/full', '"$@" <&- 2>&-'])
def test_a_stderr_that_takes_nothing_leaves_the_exit_code(line):
    assert through_shell(line, "list", "nothing").returncode == 2


def test_a_broken_stderr_does_not_end_a_run(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SUITE)
    read, write = os.pipe()
    os.close(read)
    words = ["run", "--suite", path, "--device", "cpu", "--limit", "1", "--method", "full", "--out", tmp_path / "run"]
    done = subprocess.run([*PROGRAM, *words], stdout=subprocess.PIPE, stderr=write, text=True)
    os.close(write)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == str(tmp_path / "run" / "report.html")
    assert {record.status for record in read_records(tmp_path / "run")} == {"ok"}


@pytest.mark.parametrize("size", ["1", "²"])
def test_a_size_that_no_terminal_has_hides_nothing(size):
    done = subprocess.run(
        [*PROGRAM, "list", "nothing"], capture_output=True, text=True, env=os.environ | {"COLUMNS": size, "LINES": size}
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith('list: unknown list "nothing"; known: methods, ')


# leaves which sizes the program forgets
SIZES = """
import os, sys
from pcbench.system import streams
for size in sys.argv[1:]:
    os.environ["COLUMNS"] = os.environ["LINES"] = size
    streams.guard()
    print({"COLUMNS", "LINES"} - set(os.environ) == {"COLUMNS", "LINES"})
"""


def test_every_size_that_no_terminal_has_is_forgotten():
    sizes = ["0", "-5", "²", "x", "99999999999999999999", "", "80"]
    done = subprocess.run([sys.executable, "-c", SIZES, *sizes], capture_output=True, text=True)
    assert done.stdout.split() == ["True"] * 6 + ["False"], done.stderr


def test_letters_that_an_encoding_lacks_are_escaped():
    done = subprocess.run(
        [*PROGRAM, "list", "×"], capture_output=True, text=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}
    )
    assert done.stderr.startswith(r'list: unknown list "\xd7"; known: ')
