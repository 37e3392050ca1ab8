"""`pcbench run`: its arguments, what a dry run prints and the exit code of a run."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from pcbench.cli.lists import completed, suite_questions
from pcbench.cli.terminals import err, out
from pcbench.errors import ConfigError
from pcbench.system import interrupts

__all__ = ["EXIT_ERROR", "EXIT_PARITY", "EXIT_USAGE", "run", "tell"]

EXIT_ERROR, EXIT_USAGE, EXIT_PARITY = 1, 2, 3

Engines = Annotated[
    list[str] | None,
    typer.Option(
        metavar="openai:URL|vllm:PYTHON",
        help="Also ask this server, or vLLM in this Python, in suites of kind prefill and throughput; repeatable.",
    ),
]


def run(
    suite: Annotated[
        str | None,
        typer.Option(
            help="Name of a suite, or a .toml file; without it they are listed.", autocompletion=completed("suites")
        ),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="A preset of the suite.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or rocm.", autocompletion=completed("devices"))] = "auto",
    model: Annotated[
        str | None,
        typer.Option(
            help="A name of `pcbench list models`, a Hugging Face id or a path.", autocompletion=completed("models")
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these methods, or ops of a suite of kernels; repeatable.", autocompletion=completed("methods")
        ),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option(help="Linear layers of the model as int8, int4 or fp8: --set suite.quantize."),
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key.path=value; repeatable.")] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="In place of a suite's tasks; a name or .jsonl file.", autocompletion=completed("tasks")),
    ] = None,
    engine: Engines = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Prompts, or rounds of a kernel, per cell at most.")] = None,
    folder: Annotated[Path | None, typer.Option("--out", help="The run's folder.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    isolate: Annotated[bool, typer.Option("--isolate", help="Every group in a process of its own.")] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER/COUNT",
            help="Only this share of the groups, or of the prompts where nothing is timed; in a Slurm array the job's, "
            "1/1 takes all. pcbench merge joins them.",
        ),
    ] = None,
    log: Annotated[
        str | None, typer.Option(metavar="TRACKER", help="Log every cell to trackio or wandb, too, as it finishes.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cells with estimated time and memory.")] = False,
) -> None:
    """Measure a suite and write its report."""
    if suite is None:
        out.print(suite_questions())
        raise ConfigError(
            "run: --suite and a name of this list, got no --suite; begin with: pcbench run --suite prefill --dry-run"
        )
    from pcbench.harness.runner import Options, plan
    from pcbench.harness.shards.shard import asked
    from pcbench.measure.machine.load import busy_here

    # so that every command that goes on with the run names them
    named = [f"suite.engines={json.dumps(engine)}"] if engine else []
    named += [f"suite.quantize={quantize}"] if quantize is not None else []
    lists = {"methods": method or [], "sets": [*(set_ or []), *named], "tasks": task or []}
    more: Any = {"limit": limit, "out": folder, "resume": resume, "isolate": isolate, "shard": asked(shard), "log": log}
    options = Options(suite, device, preset, model, **lists, **more)
    if dry_run:
        _print_plan(plan(options), busy_here())
        return
    _measure(options)


def _measure(options: Any) -> None:
    """A run with its report; of several ranks only the first has something to say."""
    from pcbench.harness.processes import ranks
    from pcbench.harness.runner import run as measure
    from pcbench.report import build
    from pcbench.sharing.tracking import Tracker

    tracker = None if options.log is None or ranks.rank() else Tracker(options.log, err.print)
    with interrupts.tidily():
        run_folder, records = measure(options, err, tracker)
        if ranks.rank():
            return
        if tracker is not None:
            tracker.finish(records)
        page = build([run_folder.path])
    tell(records, page)


def tell(records: Sequence[Any], page: Path) -> None:
    """Prints what became of a run's cells and where its report is, and exits."""
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


def _print_plan(planned: Any, busy: str | None) -> None:
    from pcbench.harness.duration import spoken

    if planned.said:
        err.print(planned.said)
    rows = list(planned.kind.estimates())
    sizes = [f"{what} MiB" for what in rows[0].sizes] if rows else []
    reasons = ["why not"] if any(row.why_not for row in rows) else []
    table = Table("cell", "key", "passes", "about s", *sizes, *reasons)
    for row in rows:
        held = [f"{size / 2**20:.0f}" for size in row.sizes.values()]
        why = [row.why_not or "" for _ in reasons]
        table.add_row(row.cell, row.key, str(row.passes), f"{row.seconds:.0f}", *held, *why)
    out.print(table)
    if busy:
        out.print(f"{busy}, and so does this estimate")
    takes = spoken(sum(row.seconds for row in rows if not row.why_not))
    out.print(f"{len(rows)} cells on {planned.device}, about {takes} by a short probe; nothing was measured")
