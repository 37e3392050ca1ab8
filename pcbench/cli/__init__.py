"""The command line: its commands, exit codes and how errors are told; everything else is below."""

import os
import sys
import traceback
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from pcbench.cli.ask import ask
from pcbench.cli.calibrate import calibrate
from pcbench.cli.choose import choose
from pcbench.cli.data import data
from pcbench.cli.export import export_kept
from pcbench.cli.lists import completed, list_
from pcbench.cli.merge import merge
from pcbench.cli.run import EXIT_ERROR, EXIT_PARITY, EXIT_USAGE, run
from pcbench.cli.sharing import leaderboard, publish, schema
from pcbench.cli.terminals import err, out
from pcbench.errors import (
    ConfigError,
    DiskFull,
    FolderLost,
    Interrupted,
    OutputLost,
    PcbenchError,
    RankLost,
    ReaderGone,
)
from pcbench.system import interrupts, surroundings
from pcbench.system.terminal import shortened

__all__ = ["main"]

# as of a program that SIGPIPE ends
EXIT_UNREAD = 141
# errors that do not mean that nothing could run
LATER_ERRORS = (DiskFull, FolderLost, Interrupted, OutputLost, RankLost)

# what typer raises for arguments it cannot use; the module it lives in differs between versions
UsageError = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

# a shell is told by _PCBENCH_COMPLETE=source_bash, source_zsh or source_fish, too
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        out.print(f"pcbench {version('pcbench')}")
        raise typer.Exit


@app.callback()
def settings(
    show: Annotated[bool, typer.Option("--traceback", help="Show the traceback of an error.")] = False,
    _: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version.")
    ] = False,
) -> None:
    """Speed, memory and accuracy of training-free long-context methods, measured in one run."""
    surroundings.check_working_folder()
    if show:
        os.environ["PCBENCH_TRACEBACK"] = "1"


app.command()(run)
app.command()(merge)
app.command("list")(list_)


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """What this machine and build can run, and why not."""
    from pcbench.harness.doctor import diagnose

    findings = diagnose()
    if as_json:
        out.print_data([asdict(f) for f in findings])
        return
    for finding in findings:
        out.print(f"{'yes' if finding.usable else 'no '} {finding.subject}: {finding.detail}")


@app.command()
def check(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or rocm.", autocompletion=completed("devices"))] = "auto",
    op: Annotated[str | None, typer.Option(help="Only this op.", autocompletion=completed("ops"))] = None,
) -> None:
    """Hold every op of the device against the float64 reference."""
    from pcbench.harness.checks import check_ops

    failed = False
    for verdict in check_ops(device, op):
        failed = failed or verdict.ok is False
        out.print(verdict.line())
    raise typer.Exit(EXIT_PARITY if failed else 0)


@app.command()
def report(
    runs: Annotated[list[Path] | None, typer.Argument(help="Folders of runs.")] = None,
    page: Annotated[Path | None, typer.Option("--out", help="The HTML file.")] = None,
    history: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="In place of runs: the ratios of all runs in a folder over their commits."),
    ] = None,
) -> None:
    """Rebuild the HTML report from the records of one or more runs."""
    from pcbench.report import build, build_history

    if bool(runs) == (history is not None):
        raise ConfigError(f"report: folders of runs or --history DIR, got {'both' if runs else 'neither'}; give one")
    with interrupts.tidily():
        built = build_history(history, page) if history else build(runs or [], page)
    out.print(str(built))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs; the first is the baseline.")],
    fail_on: Annotated[
        str | None,
        typer.Option(
            help="Exit with 3 where a ratio is this much worse, as 5%, and its interval, for all ratios together, "
            "excludes 1 (with too few repeats for that: the interval of the ratio alone lies beyond 5%); with 1 where "
            "it is as much worse by its own 95% interval only, where a ratio or a cell is lost, or where none can be "
            "judged. For whole suites take 10%: a run that lies elsewhere as a whole is in no interval."
        ),
    ] = None,
    fail_on_score: Annotated[
        str | None,
        typer.Option(
            metavar="POINTS",
            help="Exit with 3 where a score is lower by this many points of 100, or a perplexity higher by this many "
            "percent, and significantly so, all scores or losses taken together; with 1 where it is as much worse but "
            "not significantly, where its prompts or windows are missing in one run, or where none can be judged.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
    comment: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write it as Markdown, too.")
    ] = None,
) -> None:
    """Hold runs against the first of them.

    By ratios to their in-run baselines, scores, losses, memory and environment; needs no torch.
    """
    from pcbench.report.compare.comparison import compare as hold_against
    from pcbench.report.compare.comparison import read_margin, read_points
    from pcbench.report.compare.text import headline, tables, terminal, write_markdown

    points = None if fail_on_score is None else read_points(fail_on_score)
    found = hold_against(runs, None if fail_on is None else read_margin(fail_on), points)
    if comment:
        with interrupts.tidily():
            write_markdown(comment, f"pcbench: {headline(found)}", tables(found))
    if as_json:
        out.print_data(found.as_data())
    else:
        for table in tables(found):
            out.print(terminal(table))
            out.print(table.note, end="\n\n" if table.note else "\n")
        out.print(headline(found))
    for line in found.unjudged():
        err.print(line)
    raise typer.Exit(found.exit_code())


@app.command()
def score(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder or file of stored predictions, or a run.")],
    benchmark: Annotated[
        str, typer.Option(help="longbench, longbench-e, longbench-v2, infinitebench, ruler or gsm8k.")
    ],
    scorer: Annotated[
        str | None, typer.Option(help="An id of `pcbench list scorers`, or all.", autocompletion=completed("scorers"))
    ] = None,
    method: Annotated[str | None, typer.Option(help="Whose predictions, where DIR holds those of several.")] = None,
    against: Annotated[Path | None, typer.Option(metavar="DIR", help="Subtract these, record by record.")] = None,
    against_method: Annotated[
        str | None, typer.Option(metavar="METHOD", help="Whose predictions in the second folder; alone, in the first.")
    ] = None,
    keep_thoughts: Annotated[bool, typer.Option("--keep-thoughts", help="Score what precedes </think>, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Score stored predictions; needs no GPU, no model, no torch."""
    from pcbench.tasks.scorecards.scorecard import scorecards
    from pcbench.tasks.scorecards.text import notes, table

    cards = scorecards(
        folder,
        benchmark,
        scorer,
        against,
        method=method,
        against_method=against_method,
        keep_thoughts=keep_thoughts,
        say=err.print,
    )
    if as_json:
        out.print_data(cards if scorer == "all" else cards[0])
    else:
        out.print(table(cards))
        for line in dict.fromkeys(line for card in cards for line in notes(card, cards)):
            out.print(line)


app.command()(choose)
app.command()(ask)
app.command()(calibrate)
app.command()(leaderboard)
app.command()(publish)
app.command()(schema)
app.command("export-kept")(export_kept)
app.add_typer(data, name="data")


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; every error a user can cause is one line on stderr.

    Args:
        arguments: without the program's name; None takes those of the process.
    """
    try:
        code = app(arguments, standalone_mode=False, prog_name="pcbench")
        sys.stdout.flush()
    except typer.Abort:
        code = interrupts.told()
    except UsageError as error:
        code = EXIT_USAGE
        # as of `pcbench` alone
        if type(error).__name__ == "NoArgsIsHelpError":
            err.print_piece(f"{error}\n")
            sys.exit(code)
        err.print(shortened(f"pcbench: {error.format_message()}; see pcbench --help"))  # type: ignore[attr-defined]
    except PcbenchError as error:
        code = _told(error)
    sys.exit(code)


def _told(error: PcbenchError) -> int:
    """Prints the line of an error; the exit code that it has."""
    if os.environ.get("PCBENCH_TRACEBACK"):
        for line in traceback.format_exc().splitlines():
            err.print(line)
    if isinstance(error, ReaderGone):
        return EXIT_UNREAD
    later = isinstance(error, LATER_ERRORS)
    err.print(str(error) if later else shortened(str(error)))
    if isinstance(error, Interrupted):
        return interrupts.told()
    return EXIT_ERROR if later else EXIT_USAGE
