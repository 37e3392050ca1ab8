"""Raw times of large runs: some stay in the report, the hash says what all of them were."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pcbench.types import Record, digest

__all__ = ["Thinned", "thin"]

# raw times in one report, and the fewest that a cell keeps
TIMES, FEWEST = 12_000, 20


@dataclass(frozen=True)
class Thinned:
    """How many raw times a cell had, and the first 16 hex digits of the sha256 of their JSON list."""

    count: int
    sha256: str


def thin(records: Sequence[Record]) -> tuple[list[Record], dict[str, Thinned]]:
    """Records with at most so many raw times together, and what was thinned.

    Of a cell every k-th time stays, the first among them. k depends on the length alone, so the times of cells
    that were measured in turns stay pairs.
    """
    most = _most([len(record.samples_ms or ()) for record in records])
    kept, thinned = [], {}
    for record in records:
        times = record.samples_ms or []
        if len(times) > most:
            thinned[record.cell] = Thinned(len(times), digest(times, length=16))
            record = replace(record, samples_ms=times[:: -(-len(times) // most)])
        kept.append(record)
    return kept, thinned


def _most(lengths: Sequence[int]) -> int:
    """Times that every cell may keep: as many as fit, no fewer than `FEWEST`."""
    if sum(lengths) <= TIMES:
        return max(lengths, default=0)
    return max(FEWEST, TIMES // len(lengths))
