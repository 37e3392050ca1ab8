"""Which groups and prompts of a run are a shard's: a pure function of their place and of their name."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pcbench.errors import ConfigError, shown
from pcbench.system.surroundings import whole_number

__all__ = ["Shard", "asked"]

T = TypeVar("T")

# far beyond what Slurm's arrays hold
MOST = 10**8
TASK, LEAST, GREATEST, STEP, COUNT = (f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "MAX", "STEP", "COUNT"))


@dataclass(frozen=True)
class Shard:
    """One of `count` parts of a run.

    Args:
        number: from 1.
        count: two at least.
        by: what named it.
    """

    number: int
    count: int
    by: str = field(default="--shard", compare=False)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def groups(self, groups: Sequence[T]) -> list[T]:
        """Its part of the groups of a suite; groups that a suite gets at its end move none of the others.

        Shards take turns, every second time the other way round: a suite's groups often grow with the context, and
        the last shard would have the longest of every turn.
        """
        return [group for i, group in enumerate(groups) if self._turn(i) == self.number - 1]

    def _turn(self, place: int) -> int:
        turn, within = divmod(place, self.count)
        return self.count - 1 - within if turn % 2 else within

    def prompts(self, group: str) -> tuple[int, int]:
        """Its part of the prompts of a group: the first of them, and the step to the next.

        Args:
            group: the key, which says where shards begin to take turns: of many groups with few prompts the first
                shards would have more.
        """
        return (self.number - 1 - int(group, 16)) % self.count, self.count


def asked(text: str | None) -> Shard | None:
    """The shard that a command line names, else the job of a Slurm array; None takes the whole run.

    Args:
        text: `NUMBER/COUNT`; 1/1 is the whole run.

    Raises:
        ConfigError: no shard, or an array from whose variables no share can be read.
    """
    if text is None:
        return _of_array()
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count <= MOST:
        raise ConfigError(f"--shard: NUMBER/COUNT with 1 <= NUMBER <= COUNT, got {shown(text)}; write 2/8, say")
    return Shard(number, count) if count > 1 else None


def _of_array() -> Shard | None:
    if TASK not in os.environ or COUNT not in os.environ:
        return None
    remedy = "name the share by --shard NUMBER/COUNT, or take the whole run by --shard 1/1"
    task, count, least, step, greatest = (
        whole_number(name, default, least=from_, most=MOST, remedy=remedy)
        for name, default, from_ in ((TASK, 0, 0), (COUNT, 1, 1), (LEAST, 0, 0), (STEP, 1, 1), (GREATEST, 0, 0))
    )
    if count == 1:
        return None
    place, rest = divmod(task - least, step)
    if rest or (greatest - least) // step + 1 != count or not 0 <= place < count:
        got = f"job {task} of the {count} in {least}-{greatest}:{step}"
        raise ConfigError(f"{TASK}: a job of an array with equal steps, as --array=1-8, got {got}; {remedy}")
    return Shard(place + 1, count, f"{TASK}={task}")
