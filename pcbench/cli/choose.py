"""`pcbench choose`: its arguments and what it prints."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pcbench.cli.terminals import out
from pcbench.errors import DataMissing

if TYPE_CHECKING:
    from collections.abc import Callable

    from pcbench.report.reading.results import Results
    from pcbench.report.verdict.choosing.candidates import Setting
    from pcbench.report.verdict.choosing.commands import Missing

__all__ = ["choose"]

# characters of a command beyond which a file is better
LONG = 400
NOTHING = "choose: runs that measured memory, scores or losses of methods, got none; give folders of such runs"


def choose(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or reports: all that may help.")],
    memory: Annotated[
        str | None, typer.Option(help="What must hold weights, prefill and answer, as 24GiB or 80GB.")
    ] = None,
    context: Annotated[
        int | None, typer.Option(min=1, max=100_000_000, help="Tokens of a prompt with its answer.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only records of this model.")] = None,
    suites: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write suite files there that make the commands of what is missing short."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """List the methods that fit in a memory at a length, best first."""
    from pcbench.report.reading.results import Results
    from pcbench.report.reading.runs import read_runs
    from pcbench.report.verdict.choosing.asked import Asked, read_memory
    from pcbench.report.verdict.choosing.candidates import settings
    from pcbench.report.verdict.choosing.commands import Missing
    from pcbench.report.verdict.choosing.data import as_data
    from pcbench.report.verdict.choosing.suite_files import SuiteFiles

    asked = Asked(None if memory is None else read_memory(memory), context, model)
    results = Results(read_runs(runs))
    found = settings(results, asked)
    if not found:
        raise DataMissing(NOTHING)
    said = Missing.command if suites is None else SuiteFiles(suites).command
    if as_json:
        out.print_data(as_data(results, asked, found, said))
        return
    for setting in found:
        _print(results, setting, said)


def _print(results: "Results", setting: "Setting", said: "Callable[[Missing], str]") -> None:
    """The answer, the table, how to read it, and the commands that measure what is missing."""
    from pcbench.report.verdict.choosing.commands import accuracy_commands, memory_commands
    from pcbench.report.verdict.choosing.table import columns
    from pcbench.report.verdict.choosing.words import answer, remarks

    out.print(answer(setting), end="\n\n")
    shown = columns(results, setting)
    table = Table(title=f"{setting.title}, {setting.context:,} tokens", title_justify="left", box=None, pad_edge=False)
    for name in shown:
        table.add_column(name, overflow="fold")
    for row in zip(*shown.values(), strict=True):
        table.add_row(*row)
    out.print(table, end="\n\n")
    for line in remarks(setting):
        out.print(line)
    lacking = {"memory": memory_commands(setting, said), "accuracy": accuracy_commands(setting, said)}
    for what, commands in lacking.items():
        if commands:
            out.print(f"To measure the missing {what} (with --dry-run its time):")
        for command in commands:
            out.print(f"  {command}")
    if max((len(command) for commands in lacking.values() for command in commands), default=0) > LONG:
        out.print("--suites DIR writes suite files there that make these commands short.")
    out.print()
