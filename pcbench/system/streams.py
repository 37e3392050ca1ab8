"""What stdout and stderr do where nobody reads them, or where they are full or closed: no traceback, and no run ends.

Imports nothing heavy: it is settled before the rest of the program is loaded.
"""

import io
import os
import re
import sys
from typing import Any

from pcbench.errors import OutputLost, ReaderGone

__all__ = ["guard", "guard_messages"]

# what a terminal has at least: fewer columns hide what is printed
SMALLEST = {"COLUMNS": 20, "LINES": 1}


class _Output(io.FileIO):
    """stdout; what cannot be written is an error of its own, and what follows goes nowhere."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            _to_nowhere(self.fileno())
            if isinstance(error, BrokenPipeError):
                raise ReaderGone("stdout: a reader until the end, got one that has gone") from error
            raise OutputLost(
                f"stdout: a place that takes what is printed, got {error.strerror}; print elsewhere"
            ) from error


class _Messages(io.FileIO):
    """stderr; there is nobody to tell that it takes nothing, and what the program does goes on."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            _to_nowhere(self.fileno())
            return memoryview(data).nbytes


def guard() -> None:
    """Puts both in the place of sys.stdout and sys.stderr, and forgets a size that no terminal has.

    Letters that their encoding lacks are escaped.
    """
    for descriptor in range(3):
        _settle(descriptor)
    sys.stdout = _text(_Output(1, "w", closefd=False), sys.stdout)
    guard_messages()
    for name, least in SMALLEST.items():
        size = os.environ.get(name, "")
        if not re.fullmatch("[0-9]{1,4}", size) or int(size) < least:
            os.environ.pop(name, None)


def guard_messages() -> None:
    """The same for sys.stderr alone, as in a process that measures for another."""
    sys.stderr = _text(_Messages(2, "w", closefd=False), sys.stderr)


def _text(raw: io.FileIO, before: Any) -> io.TextIOWrapper:
    encoding = getattr(before, "encoding", None) or "utf-8"
    by_line = raw.isatty() or raw.fileno() == 2
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=by_line)


def _settle(descriptor: int) -> None:
    """A closed one is opened, so that no other file becomes it; of stdout so that writing fails."""
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_WRONLY if descriptor == 2 else os.O_RDONLY)
        # the lowest free number: those below are open
        assert opened == descriptor


def _to_nowhere(descriptor: int) -> None:
    """What is still in a buffer must not fail again when Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
