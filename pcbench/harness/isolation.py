"""`--isolate`: every group in a process of its own, whose end is a status and not the end of the run."""

import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from pcbench.errors import PcbenchError
from pcbench.harness.children import children
from pcbench.harness.session import Measured, Session, measure_group

__all__ = ["measure_in_child", "memory_kills"]

# a process that has told its result is given so long to end by itself
EXIT_S = 10.0


def measure_in_child(
    session: Session, cells: list[Any], repro: str, say: Callable[[str], None], timeout_s: float | None = None
) -> Measured:
    """Measures one group in a child process.

    A child that is killed, raises something unexpected or takes longer than `timeout_s` gives records that say so.

    Raises:
        PcbenchError: what would end the run without isolation too.
    """
    say(f"{cells[0].cell.name} and its group in a process of their own")
    context = children()
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(session.fresh(), cells, repro, torch.get_num_threads(), send))
    kills = memory_kills()
    child.start()
    send.close()
    try:
        if not receive.poll(timeout_s):
            return session.lost(cells, repro, "timeout", f"the group took longer than {timeout_s:g} s")
        outcome = receive.recv()
        child.join(EXIT_S)
    except (EOFError, OSError):
        # the pipe ended, before its message or inside
        child.join()
        if child.exitcode == -signal.SIGKILL and memory_kills() > kills:
            reason = "the group's process was killed by the system, which had no more memory"
            return session.lost(cells, repro, "out_of_memory", reason)
        return session.lost(cells, repro, "error", f"the group's process ended with {_ending(child)}")
    finally:
        _stop(child)
    if isinstance(outcome, PcbenchError):
        raise outcome
    if isinstance(outcome, Measured):
        return outcome
    reason, trace = outcome
    return replace(session.lost(cells, repro, "error", reason), traces={cells[0].cell.key: trace})


def memory_kills(counters: Path = Path("/proc/vmstat")) -> int:
    """Processes that this system has killed so far for want of memory; 0 where it does not count them."""
    if not counters.is_file():
        return 0
    lines = (line.split() for line in counters.read_text().splitlines())
    return next((int(count) for name, count in lines if name == "oom_kill"), 0)


def _measure(session: Session, cells: list[Any], repro: str, threads: int, send: Connection) -> None:
    # what this process starts ends with it
    os.setsid()
    torch.set_num_threads(threads)
    try:
        outcome: object = measure_group(session, cells, repro, _silent)
    except PcbenchError as error:
        outcome = error
    except Exception as error:  # becomes the group's status
        outcome = f"{type(error).__name__}: {error}".splitlines()[0], traceback.format_exc()
    send.send(outcome)


def _stop(child: BaseProcess) -> None:
    """Ends a child that still runs, with what it started."""
    if child.is_alive() and child.pid is not None:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            child.kill()
    child.join()


def _ending(child: BaseProcess) -> str:
    code = child.exitcode or 0
    return f"code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _silent(_: str) -> None:
    """A child has no progress line."""
