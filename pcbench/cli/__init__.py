"""The command line: argument parsing, exit codes and what is printed; everything else is below."""

import os
import sys
import traceback
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from pcbench import registry
from pcbench.cli.ask import ask
from pcbench.cli.calibrate import calibrate
from pcbench.cli.terminals import err, out
from pcbench.errors import (
    DiskFull,
    FolderLost,
    Interrupted,
    OutputLost,
    PcbenchError,
    RankLost,
    ReaderGone,
    unknown_name,
)
from pcbench.suites import suite_summaries
from pcbench.system import interrupts, surroundings
from pcbench.system.terminal import shortened

__all__ = ["main"]

EXIT_ERROR, EXIT_USAGE, EXIT_PARITY = 1, 2, 3
# as of a program that SIGPIPE ends
EXIT_UNREAD = 141
# errors that do not mean that nothing could run
LATER_ERRORS = (DiskFull, FolderLost, Interrupted, OutputLost, RankLost)
LISTS = ("suites", "methods", "models", "tasks", "scorers", "ops")

# what typer raises for arguments it cannot use; the module it lives in differs between versions
UsageError = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
data_app = typer.Typer(no_args_is_help=True, add_completion=False, help="Official files of benchmarks.")
app.add_typer(data_app, name="data")


@app.callback()
def settings(
    show: Annotated[bool, typer.Option("--traceback", help="Show the traceback of an error.")] = False,
) -> None:
    """Speed, memory and accuracy of training-free long-context methods, measured in one run."""
    surroundings.check_working_folder()
    if show:
        os.environ["PCBENCH_TRACEBACK"] = "1"


@app.command()
def run(
    suite: Annotated[str, typer.Option(help="Name of a suite, or a .toml file.")],
    preset: Annotated[str | None, typer.Option(help="A preset of the suite.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or rocm.")] = "auto",
    model: Annotated[
        str | None, typer.Option(help="A name of `pcbench list models`, a Hugging Face id or a path.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Only these methods, or ops of a suite of kernels; repeatable.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key.path=value; repeatable.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="In place of a suite's tasks; a name or .jsonl file.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Prompts, or rounds of a kernel, per cell at most.")] = None,
    folder: Annotated[Path | None, typer.Option("--out", help="The run's folder.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    isolate: Annotated[bool, typer.Option("--isolate", help="Every group in a process of its own.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cells with estimated time and memory.")] = False,
) -> None:
    """Measure a suite and write its report."""
    from pcbench.harness.processes import ranks
    from pcbench.harness.runner import Options, plan
    from pcbench.harness.runner import run as measure
    from pcbench.report import build

    options = Options(
        suite, device, preset, model, method or [], set_ or [], limit, folder, resume, isolate, task or []
    )
    if dry_run:
        return _print_plan(plan(options))
    with interrupts.tidily():
        run_folder, records = measure(options, err)
        if ranks.rank():
            return None
        page = build([run_folder.path])
    counts = Counter(record.status for record in records)
    skipped = sum(bool(record.skipped_records) for record in records)
    note = f"; {skipped} without some of their records, see their warnings" if skipped else ""
    out.print(", ".join(f"{n} {status}" for status, n in counts.items()) + note)
    out.print(str(page))
    raise typer.Exit(_exit_code(counts, skipped))


def _exit_code(counts: Counter[Any], skipped: int) -> int:
    if counts["parity_failed"]:
        return EXIT_PARITY
    if counts["error"] or counts["timeout"] or skipped:
        return EXIT_ERROR
    return 0 if counts["ok"] else EXIT_USAGE


def _print_plan(planned: Any) -> None:
    rows = list(planned.kind.estimates())
    sizes = [f"{what} MiB" for what in rows[0].sizes] if rows else []
    table = Table("cell", "key", "passes", "about s", *sizes, "")
    for row in rows:
        held = [f"{size / 2**20:.0f}" for size in row.sizes.values()]
        table.add_row(row.cell, row.key, str(row.passes), f"{row.seconds:.0f}", *held, row.why_not or "")
    out.print(table)
    minutes = sum(row.seconds for row in rows) / 60
    out.print(
        f"{len(rows)} cells on {planned.device}, about {minutes:.0f} minutes by a matmul probe; nothing was measured"
    )


@app.command("list")
def list_(
    what: Annotated[str | None, typer.Argument(help=", ".join(LISTS))] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """List suites, methods, models, tasks, scorers, ops."""
    if what is not None and what not in LISTS:
        raise unknown_name("list", "list", what, LISTS)
    lists = {name: _entries(name) for name in LISTS if what in (None, name)}
    if as_json:
        out.print_data(lists if what is None else lists[what])
        return
    for name, entries in lists.items():
        table = Table(name, "", show_edge=False, box=None, pad_edge=False)
        for entry, summary in entries.items():
            table.add_row(entry, summary)
        out.print(table)
        out.print()


def _entries(what: str) -> dict[str, str]:
    """Name → one line about it; imports no torch. What cannot be used of another package is a line on stderr."""
    if what == "suites":
        return suite_summaries(err.print)
    if what == "models":
        return registry.model_summaries(err.print) | {"ID or PATH": "a Hugging Face RoPE decoder in safetensors"}
    if what == "tasks":
        return registry.described(registry.task_tables(), _task, err.print)
    if what == "ops":
        return registry.op_summaries()
    if what == "scorers":
        return registry.scorer_summaries(err.print)
    return registry.summaries(registry.METHODS, err.print)


def _task(name: str) -> str:
    """What a task is, who brings it and, where it needs files, whether they are there."""
    from pcbench.tasks import load_task
    from pcbench.tasks.files import how_to_get, is_there

    tables = registry.task_tables()
    summary, table = registry.credited(tables, name, load_task(name, "list").summary), tables[name]
    if "files" not in table or is_there(table["files"]):
        return f"{summary} (files are there)" if "files" in table else summary
    return f"{summary} (no files{how_to_get(table)})"


@data_app.command("list")
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


@data_app.command("fetch")
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


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """What this machine and build can run, and why not, one line each."""
    from pcbench.harness.doctor import diagnose

    findings = diagnose()
    if as_json:
        out.print_data([asdict(f) for f in findings])
        return
    for finding in findings:
        out.print(f"{'yes' if finding.usable else 'no '} {finding.subject}: {finding.detail}")


@app.command()
def check(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or rocm.")] = "auto",
    op: Annotated[str | None, typer.Option(help="Only this op.")] = None,
) -> None:
    """Hold every op of the device's backend against the float64 reference."""
    from pcbench.harness.checks import check_ops

    failed = False
    for verdict in check_ops(device, op):
        failed = failed or verdict.ok is False
        out.print(verdict.line())
    raise typer.Exit(EXIT_PARITY if failed else 0)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs.")],
    page: Annotated[Path | None, typer.Option("--out", help="The HTML file.")] = None,
) -> None:
    """Rebuild the HTML report from the records of one or more runs."""
    from pcbench.report import build

    with interrupts.tidily():
        built = build(runs, page)
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
    """Runs side by side: ratios to their in-run baselines, scores, losses, memory, environment; needs no torch."""
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
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of stored predictions.")],
    benchmark: Annotated[str, typer.Option(help="longbench or infinitebench.")],
    scorer: Annotated[str | None, typer.Option(help="An id of `pcbench list scorers`, or all.")] = None,
    against: Annotated[Path | None, typer.Option(metavar="DIR", help="Subtract these, record by record.")] = None,
    keep_thoughts: Annotated[bool, typer.Option("--keep-thoughts", help="Score what precedes </think>, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Score stored predictions; needs no GPU, no model, no torch."""
    from pcbench.tasks.scorecards.scorecard import scorecards
    from pcbench.tasks.scorecards.text import notes, table

    cards = scorecards(folder, benchmark, scorer, against, keep_thoughts=keep_thoughts, say=err.print)
    if as_json:
        out.print_data(cards if scorer == "all" else cards[0])
    else:
        out.print(table(cards))
        for line in dict.fromkeys(line for card in cards for line in notes(card, cards)):
            out.print(line)


app.command()(ask)
app.command()(calibrate)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; every error a user can cause is one line on stderr.

    Args:
        arguments: without the program's name; None takes those of the process.
    """
    try:
        code = app(arguments, standalone_mode=False)
        sys.stdout.flush()
    except typer.Abort:
        code = interrupts.told()
    except UsageError as error:
        err.print(shortened(f"pcbench: {error.format_message()}; see pcbench --help"))  # type: ignore[attr-defined]
        code = EXIT_USAGE
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
