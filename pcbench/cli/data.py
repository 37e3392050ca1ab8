"""`pcbench data`: official files of benchmarks."""

from typing import Annotated

import typer
from rich.table import Table

from pcbench.cli.terminals import out
from pcbench.system import interrupts

__all__ = ["data"]

data = typer.Typer(no_args_is_help=True, add_completion=False, help="Official files of benchmarks.")


@data.command("list")
def list_sources(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """List what can be fetched, where it goes, and what is not held to a hash."""
    from pcbench.tasks.files import data_dir
    from pcbench.tasks.official.fetch import sources

    listed = {
        name: f"{source.summary} ({source.caveat})" if source.caveat else source.summary
        for name, source in sources().items()
    }
    if as_json:
        out.print_data(listed)
        return
    table = Table("source", f"into {data_dir()}", show_edge=False, box=None, pad_edge=False)
    for name, summary in listed.items():
        table.add_row(name, summary)
    out.print(table)


@data.command("fetch")
def fetch_source(
    name: Annotated[str, typer.Argument(help="A name of `pcbench data list`.")],
    trust_first_use: Annotated[
        bool, typer.Option("--trust-first-use", help="Take files whose sha256 is not known and record it.")
    ] = False,
) -> None:
    """Download official files; they have licences of their own."""
    from pcbench.tasks.official.fetch import fetch

    with interrupts.tidily():
        fetch(name, out.print, trust_first_use=trust_first_use)
