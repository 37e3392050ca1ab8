"""`pcbench calibrate`: its arguments and what it prints."""

from pathlib import Path
from typing import Annotated

import typer

from pcbench.cli.terminals import err, out
from pcbench.system import interrupts

__all__ = ["calibrate"]


def calibrate(
    model: Annotated[str, typer.Option(help="A name of `pcbench list models`, a Hugging Face id or a path.")],
    text: Annotated[Path | None, typer.Option(help="A file of text; CPython's documentation without one.")] = None,
    table: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The table, .safetensors with a .json beside it.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, max=10_000, help="Pieces of the text.")] = 4,
    tokens: Annotated[int, typer.Option(min=1, max=1 << 20, help="Of a sample at most.")] = 4096,
    matrix: Annotated[str, typer.Option(help="queries, keys or hidden.")] = "queries",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or rocm.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace a table that is there.")] = False,
) -> None:
    """Measure the entropy table of a model. Methods with head groups need it."""
    from pcbench.harness.calibrate import Asked
    from pcbench.harness.calibrate import calibrate as measure

    with interrupts.tidily():
        written = measure(Asked(model, text, table, samples, tokens, matrix, device, force), err.print)
    out.print(str(written))
