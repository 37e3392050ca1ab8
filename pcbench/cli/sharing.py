"""`pcbench schema`: what is needed to read a run's files elsewhere."""

from typing import Annotated, Literal

import typer

from pcbench.cli.terminals import out

__all__ = ["schema"]


def schema(
    name: Annotated[
        Literal["records", "samples", "manifest"] | None, typer.Argument(help="Of which file; without it of all three.")
    ] = None,
) -> None:
    """Print the formats of a run's files as JSON Schema."""
    from pcbench.sharing.schema import FILES
    from pcbench.sharing.schema import schema as made

    out.print_data({known: made(known) for known in FILES} if name is None else made(name))
