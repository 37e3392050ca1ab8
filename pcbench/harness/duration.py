"""How long a run still takes: what was estimated, corrected by what its finished passes took."""

import time
from collections.abc import Callable, Iterable

from pcbench.harness.kinds import Estimate

__all__ = ["Remaining", "spoken"]

# an estimate counts as much as the first tenth of its run
TRUST = 0.1
MINUTE_S, HOUR_S = 60, 3600


class Remaining:
    """Seconds that are left of a run.

    Args:
        estimates: of the cells that are still to be measured; those that cannot run take no time.
        clock: seconds.
    """

    def __init__(self, estimates: Iterable[Estimate], clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        rows = list(estimates)
        self.estimated = {row.key: 0.0 if row.why_not else row.seconds for row in rows}
        self.passes = {row.key: row.passes for row in rows}
        self.begun = dict.fromkeys(self.estimated, 0)
        self.total = sum(self.estimated.values())
        self.start = self.last = clock()

    def began(self, cell: str) -> None:
        """A pass of the cell begins, and what came before has ended."""
        if cell in self.begun:
            self.begun[cell] += 1
            self.last = self.clock()

    def finished(self, cell: str) -> None:
        """The cell has its record."""
        if cell in self.begun:
            self.begun[cell] = self.passes[cell] + 1
            self.last = self.clock()

    def left(self) -> float:
        """Seconds from now."""
        done = sum(seconds * self._share(cell) for cell, seconds in self.estimated.items())
        trusted = TRUST * self.total
        pace = (self.last - self.start + trusted) / (done + trusted) if self.total else 0.0
        return max(0.0, (self.total - done) * pace - (self.clock() - self.last))

    def _share(self, cell: str) -> float:
        """Of a cell's passes, how much has ended."""
        return min(1.0, max(0, self.begun[cell] - 1) / max(1, self.passes[cell]))


def spoken(seconds: float) -> str:
    """A duration as a person says it: `40 s`, `13 min`, `2 h 5 min`."""
    if seconds < MINUTE_S:
        return f"{seconds:.0f} s"
    minutes = round(seconds / MINUTE_S)
    return f"{minutes} min" if seconds < HOUR_S else f"{minutes // 60} h {minutes % 60} min"
