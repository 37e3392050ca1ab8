"""`pcbench merge`: its arguments; what it prints and its exit code are those of a run."""

from pathlib import Path
from typing import Annotated

import typer

from pcbench.cli.run import tell
from pcbench.cli.terminals import err
from pcbench.system import interrupts

__all__ = ["merge"]


def merge(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The new folder.")],
    shards: Annotated[list[Path], typer.Argument(metavar="SHARD...", help="The folders of all shards of a run.")],
) -> None:
    """Join the folders of `run --shard` to that of one run, and write its report."""
    from pcbench.harness.shards.merge import merge as join
    from pcbench.records import read_records
    from pcbench.report import build

    with interrupts.tidily():
        page = build([join(folder, shards, err.print).path])
    tell(read_records(folder), page)
