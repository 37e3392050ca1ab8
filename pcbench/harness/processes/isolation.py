"""`--isolate`: every group in a process of its own, whose end is a status and not the end of the run."""

import signal
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from pcbench.errors import PcbenchError
from pcbench.harness.kinds import Measured, Say, Session
from pcbench.harness.processes.children import ending, memory_kills, started

__all__ = ["measure_in_child"]

# a process that has told its result is given so long to end by itself
EXIT_S = 10.0


def measure_in_child(
    session: Session, cells: list[Any], repro: str, say: Say, timeout_s: float | None = None
) -> Measured:
    """Measures one group in a child process.

    A child that is killed, raises something unexpected or takes longer than `timeout_s` gives records that say so.

    Raises:
        PcbenchError: what would end the run without isolation too.
    """
    say(f"{cells[0].cell.name} and its group in a process of their own")
    kills = memory_kills()
    with started(_measure, session.fresh(), cells, repro) as (child, receive):
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
            return session.lost(cells, repro, "error", f"the group's process ended with {ending(child)}")
    if isinstance(outcome, PcbenchError):
        raise outcome
    if isinstance(outcome, Measured):
        return outcome
    reason, trace = outcome
    return replace(session.lost(cells, repro, "error", reason), traces={cells[0].cell.key: trace})


def _measure(session: Session, cells: list[Any], repro: str, send: Connection) -> None:
    try:
        outcome: object = session.measure(cells, repro, _silent)
    except PcbenchError as error:
        outcome = error
    except Exception as error:  # becomes the group's status
        outcome = f"{type(error).__name__}: {error}".splitlines()[0], traceback.format_exc()
    send.send(outcome)


def _silent(_: str, *cells: str) -> None:
    """A child has no progress line."""
