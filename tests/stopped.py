"""Run as a program in tests: the command line of pcbench, which a signal stops once a file has so many rows."""

import os
import signal
import sys
from pathlib import Path

from pcbench import ops
from pcbench.cli import main
from pcbench.records import Lines

__all__ = ["run", "stopped"]


def stopped(sent, file, rows, rank=0):
    """What follows `python` in place of `-m pcbench`; of a torchrun only this rank is stopped."""
    return [__file__, sent.name, str(file), str(rows), str(rank)]


def stopping(call, sent, file, rows):
    """The call, after which the signal is raised if the file has its rows."""

    def called(*args, **more):
        result = call(*args, **more)
        if file.exists() and file.read_bytes().count(b"\n") >= rows:
            signal.raise_signal(sent)
        return result

    return called


def run(arguments):
    """The program, of whose arguments the first four say when which signal stops which rank."""
    name, file, rows, rank, *words = arguments
    # a shell's background job ignores SIGINT, and so would this process
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("RANK", rank) == rank:
        when = signal.Signals[name], Path(file), int(rows)
        Lines.append = stopping(Lines.append, *when)
        # a rank that follows another appends nothing; it asks for a backend at every prompt
        ops.backend = stopping(ops.backend, *when)
    main(words)


if __name__ == "__main__":
    run(sys.argv[1:])
