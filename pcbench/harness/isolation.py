"""`--isolate`: every group in a process of its own, whose end is a status and not the end of the run."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from pcbench.harness.children import children
from pcbench.harness.session import Measured, Session, measure_group

__all__ = ["measure_in_child"]


def measure_in_child(session: Session, cells: list[Any], repro: str, say: Callable[[str], None]) -> Measured:
    """Measures one group in a child process; a child that is killed gives records with status error."""
    say(f"{cells[0].cell.name} and its group in a process of their own")
    with ProcessPoolExecutor(1, mp_context=children()) as pool:
        try:
            return pool.submit(_measure, session.fresh(), cells, repro, torch.get_num_threads()).result()
        except BrokenProcessPool:
            reason = "the group's process was killed; see the system's log for out of memory"
            return session.lost(cells, repro, reason)


def _measure(session: Session, cells: list[Any], repro: str, threads: int) -> Measured:
    torch.set_num_threads(threads)
    return measure_group(session, cells, repro, _silent)


def _silent(_: str) -> None:
    """A child has no progress line."""
