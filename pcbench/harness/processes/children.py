"""Child processes that start in a moment, forked from a server that has imported what they need, and end with their
parent.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import torch

from pcbench.errors import ConfigError
from pcbench.system import streams

# a path of a socket has 107, and what multiprocessing adds to a folder 40 at most
LONGEST_BYTES = 64

__all__ = ["ending", "memory_kills", "started"]


@contextmanager
def started(target: Callable[..., None], *args: Any) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process that runs `target(*args, send)`, and the other end of its pipe.

    It has this process's number of threads and environment, and none of its script. It and what it starts end with the
    block, and at once when this process ends, however that happens.
    """
    # the server itself never computes, so forking it is safe
    context = get_context("forkserver")
    context.set_forkserver_preload(sorted({target.__module__, *(type(x).__module__ for x in args)} - {"__main__"}))
    receive, send = context.Pipe(duplex=False)
    held, holds = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(held, dict(os.environ), torch.get_num_threads(), target, *args, send))
    with _undisturbed(), _without_script():
        child.start()
    send.close()
    held.close()
    with receive, holds:
        try:
            yield child, receive
        finally:
            _stop(child)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """For the start of the server, which inherits that Ctrl-C, sent to it by terminals too, waits; here until the end.

    Raises:
        ConfigError: there is no folder for its socket.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    long = tempfile.tempdir
    try:
        tempfile.tempdir = _short_folder()
        yield
    finally:
        tempfile.tempdir = long
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_script() -> Iterator[None]:
    """For the start of a child, which would run this process's script again to have its names."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _short_folder() -> str:
    """Where the socket's path fits; that of TMPDIR if it is short enough.

    Raises:
        ConfigError: there is none.
    """
    try:
        usual = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise ConfigError(f"TMPDIR: a folder for the sockets of measuring processes, got {error.strerror}") from error
    for folder in (usual, "/tmp", "/var/tmp", "/dev/shm"):
        if len(os.fsencode(folder)) <= LONGEST_BYTES and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise ConfigError(
        f"TMPDIR: a folder whose path has at most {LONGEST_BYTES} bytes, for the sockets of measuring processes, "
        f"got {usual}; name another"
    )


def ending(child: BaseProcess) -> str:
    """How a process ended: its code, or the signal that ended it."""
    code = child.exitcode or 0
    return f"code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def memory_kills(counters: Path = Path("/proc/vmstat")) -> int:
    """Processes that this system has killed so far for want of memory; 0 where it does not count them."""
    if not counters.is_file():
        return 0
    lines = (line.split() for line in counters.read_text().splitlines())
    return next((int(count) for name, count in lines if name == "oom_kill"), 0)


def _run(held: Connection, environment: dict[str, str], threads: int, target: Callable[..., None], *args: Any) -> None:
    # that of the server is of the moment when it began
    os.environ.clear()
    os.environ.update(environment)
    # what this process starts is in its group
    os.setsid()
    Thread(target=_end_with, args=(held,), daemon=True).start()
    # children of this process come from the server that it comes from; another would import everything again
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]
    streams.guard_messages()
    torch.set_num_threads(threads)
    target(*args)


def _end_with(held: Connection) -> None:
    """Waits until the parent, which alone has the other end and never writes to it, is gone."""
    with suppress(EOFError, OSError):
        held.recv_bytes()
    os.killpg(os.getpid(), signal.SIGKILL)


def _stop(child: BaseProcess) -> None:
    """Ends a child that still runs, with what it started."""
    if child.is_alive() and child.pid is not None:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            child.kill()
    child.join()
