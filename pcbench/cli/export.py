"""`pcbench export-kept`: its arguments and what it prints."""

from pathlib import Path
from typing import Annotated

import typer

from pcbench.cli.terminals import err, out
from pcbench.system import interrupts

__all__ = ["export_kept"]


def export_kept(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run with parallel_comp.")],
    file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="JSON lines; kept.jsonl in the folder without it.")
    ] = None,
) -> None:
    """Write the chunks that a run has kept as prompts of token ids, for any server."""
    from pcbench.harness.exporting import export_kept as export

    written = file or run / "kept.jsonl"
    with interrupts.tidily():
        count = export(run, written)
    err.print(f"{count} prompts")
    out.print(str(written))
