"""`pcbench schema`, `leaderboard` and `publish`: results side by side, and for others."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pcbench.cli.terminals import err, out
from pcbench.system import interrupts

__all__ = ["leaderboard", "publish", "schema"]


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


def publish(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a finished run.")],
    to: Annotated[
        str | None,
        typer.Option(metavar="hf:ORG/NAME", help="Upload it to this data set of the Hugging Face Hub, too."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Where --to makes the data set, for you alone.")] = False,
    folder: Annotated[Path | None, typer.Option("--out", help="The data set's folder; without it DIR/dataset.")] = None,
) -> None:
    """Write a run as a data set: a card, its files and their formats. Nothing is uploaded without --to."""
    from pcbench.sharing import hub
    from pcbench.sharing.publish import CARD, names, revealing
    from pcbench.sharing.publish import publish as write

    repo = None if to is None else hub.repository(to)
    folder = folder or run / "dataset"
    with interrupts.tidily():
        if write(run, folder):
            err.print(f"{folder / CARD} stays as it is; remove it to have it made anew")
        for line in revealing(folder):
            err.print(line)
        out.print(str(folder))
        if repo is not None:
            out.print(hub.upload(folder, names(), repo, private))
