"""The guard itself: what it must see."""

import os
import sys
import time

import pytest
from hostile import guard
from hostile.guard import Ended, faults, run


def ending(code, said="", to=2):
    def function(arguments):
        os.write(to, said.encode())
        sys.exit(code)

    return function


def test_run_catches_what_python_and_c_print():
    def function(arguments):
        print(arguments[0])
        os.write(1, b"below\n")
        print("error", file=sys.stderr)
        sys.exit(2)

    assert run(["a"], function) == Ended(2, "a\nbelow\n", "error\n")


def test_run_of_the_command_line_has_its_code_and_lines():
    ended = run(["list", "nothing"])
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith('list: unknown list "nothing"')
    assert faults(ended) == []
    assert faults(run(["list", "methods"])) == []


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (lambda _: 1 // 0, "ZeroDivisionError"),
        (ending(120, "one\n"), "exit code 120, not one of (0, 2)"),
        (ending(1, "one\n"), "exit code 1, not one of (0, 2)"),
        (ending(3, "one\n"), "exit code 3, not one of (0, 2)"),
        (ending(0, "a warning\n"), "1 lines on stderr of a command that did its work"),
        (ending(0), "nothing on stdout"),
        (ending(2), "0 lines on stderr"),
        (ending(2, "one\ntwo\n"), "2 lines on stderr"),
        (ending(2, "x" * 2001), "a line of 2001 letters"),
        (ending(0, "Traceback (most recent call last)"), "a traceback was printed"),
        (ending(0, "\x1b[31m", 1), "control characters"),
        (ending(2, "a\rb\n"), "control characters"),
        (ending(0, "\u202e", 1), "control characters"),
    ],
)
def test_faults_names_every_fault(function, fault):
    (found,) = faults(run([], function))
    assert fault in found


def test_a_command_that_hangs_is_stopped(monkeypatch):
    monkeypatch.setattr(guard, "SECONDS", 0.2)
    (found,) = faults(run([], lambda _: time.sleep(20)))
    assert found.startswith("hung")
