"""What the command line of `pcbench run` says."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pcbench.errors import ConfigError
from pcbench.harness.processes import ranks
from pcbench.harness.shards.shard import Shard

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """What the command line of `pcbench run` says."""

    suite: str
    device: str = "auto"
    preset: str | None = None
    model: str | None = None
    methods: Sequence[str] = ()
    sets: Sequence[str] = ()
    limit: int | None = None
    out: Path | None = None
    resume: bool = False
    isolate: bool = False
    tasks: Sequence[str] = ()
    shard: Shard | None = None
    log: str | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit: at least 1, got {self.limit}; leave it out to measure everything")

    def command(self, *extra: str) -> str:
        """The command line that says the same, on as many ranks, for copying."""
        words = [*ranks.launch(), "pcbench", "run", "--suite", self.suite]
        for flag, value in (("--preset", self.preset), ("--device", self.device), ("--model", self.model)):
            words += [flag, value] if value is not None else []
        for method in self.methods:
            words += ["--method", method]
        for task in self.tasks:
            words += ["--task", task]
        for text in self.sets:
            words += ["--set", text]
        words += ["--limit", str(self.limit)] if self.limit else []
        words += ["--isolate"] if self.isolate else []
        words += ["--shard", str(self.shard)] if self.shard else []
        words += ["--log", self.log] if self.log else []
        return shlex.join([*words, *extra])
