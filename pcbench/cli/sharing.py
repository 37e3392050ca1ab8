"""`pcbench schema` and `pcbench leaderboard`: what others need to read results, and to see them side by side."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pcbench.cli.terminals import out
from pcbench.system import interrupts

__all__ = ["leaderboard", "schema"]


def schema(
    name: Annotated[
        Literal["records", "samples", "manifest"] | None, typer.Argument(help="Of which file; without it of all three.")
    ] = None,
) -> None:
    """Print the formats of a run's files as JSON Schema."""
    from pcbench.sharing.schema import FILES
    from pcbench.sharing.schema import schema as made

    out.print_data({known: made(known) for known in FILES} if name is None else made(name))


def leaderboard(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or reports.")],
    page: Annotated[Path, typer.Option("--out", help="The HTML file.")] = Path("leaderboard.html"),
) -> None:
    """Put the cells of many runs on one page, a table for each machine and model."""
    from pcbench.report import build_leaderboard

    with interrupts.tidily():
        built = build_leaderboard(runs, page)
    out.print(str(built))
