"""A comparison as tables: for a terminal and as Markdown for a comment of CI."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import rich.table

from pcbench.plain_files import write_for
from pcbench.report.compare.comparison import Comparison
from pcbench.report.compare.paired import LossChange, PairedChange, ScoreChange
from pcbench.report.compare.results import MemoryChange
from pcbench.report.compare.times import TimeChange
from pcbench.report.wording import counted, number
from pcbench.system.terminal import visible

__all__ = ["Table", "escaped", "headline", "markdown", "tables", "terminal", "write_markdown"]

# smaller changes of memory are in --json only; of exact bytes none is small
SMALL_CHANGE = 0.01
EXACT = ("kv_bytes",)


@dataclass(frozen=True)
class Table:
    """A table of text.

    Args:
        title: what it shows.
        columns: their heads.
        rows: as many cells each as there are columns.
        note: how to read it.
    """

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    note: str = ""


def headline(found: Comparison) -> str:
    """One line: what the ratios say, by the margin."""
    verdicts = found.verdicts()
    words = [f"{verdicts[verdict]} {verdict}" for verdict in verdicts]
    lost = len(found.lost())
    said = ", ".join(words) or "no ratio to an in-run baseline"
    more = _score_headline(found) + (f"; {counted(lost, 'cell')} lost" if lost else "")
    total = counted(len(found.times), "ratio")
    return f"{total} against {found.runs[0]}, margin {found.margin * 100:g} %: {said}{more}"


def _score_headline(found: Comparison) -> str:
    """Of a gate of scores and losses, how many were judged how."""
    if found.score_margin is None:
        return ""
    margin = f"{found.score_margin * 100:g}"
    said = f"; scores, margin {margin} points: {_judged(found.scores)}" if found.scores or not found.losses else ""
    return said + (f"; losses, margin {margin} % of perplexity: {_judged(found.losses)}" if found.losses else "")


def _judged(changes: Sequence[PairedChange]) -> str:
    verdicts = Counter("regression" if change.regression else change.verdict for change in changes)
    return ", ".join(f"{n} {verdict}" for verdict, n in verdicts.items()) or "none"


def tables(found: Comparison) -> list[Table]:
    """What has something to show: endings, ratios, scores, losses, memory, environment, absolute times."""
    return [table for table in _tables(found) if table.rows]


def markdown(title: str, shown: Sequence[Table]) -> str:
    """Tables for a comment of CI; every string is escaped."""
    lines = [f"### {escaped(title)}"]
    for table in shown:
        lines += ["", f"**{escaped(table.title)}**", ""]
        lines.append(f"| {' | '.join(map(escaped, table.columns))} |")
        lines.append("|" + "---|" * len(table.columns))
        lines += [f"| {' | '.join(map(escaped, row))} |" for row in table.rows]
        lines += ["", escaped(table.note)] if table.note else []
    return "\n".join(lines) + "\n"


def write_markdown(path: Path, title: str, shown: Sequence[Table]) -> None:
    """`markdown` as a file.

    Raises:
        ConfigError: the file cannot be written.
        DiskFull: there is no room for it.
    """
    write_for("--markdown", path, markdown(title, shown))


def terminal(table: Table) -> rich.table.Table:
    """A table for a `Terminal`."""
    made = rich.table.Table(title=table.title, title_justify="left", box=None, pad_edge=False)
    for column in table.columns:
        made.add_column(column, overflow="fold")
    for row in table.rows:
        made.add_row(*row)
    return made


def escaped(text: str) -> str:
    """A text as Markdown that shows it: on one line, no markup, no mention."""
    plain = visible(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # a mention would notify people
    unmentioned = re.sub(r"@(?=\w)", "@\u200b", plain)
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", unmentioned)


def _tables(found: Comparison) -> Iterator[Table]:
    baseline, *others = found.runs
    ended = [[ending.name, *ending.endings.values()] for ending in found.endings]
    yield Table("Cells that did not end alike", ["cell", *found.runs], ended)
    yield Table(
        "Ratios to the in-run baseline",
        ["cell", "ratio", f"{baseline} (baseline)", *others],
        list(_time_rows(found)),
        "1.44 is the speed-up in the run; ×1.10 takes 10 % longer than in the baseline run, relative to the in-run "
        "baseline. Intervals are of the repeats of these two runs, at 95 % for all ratios of this table together, or "
        "for the ratio alone where it says so. A run that lies elsewhere as a whole is in no interval.",
    )
    yield Table(
        "Scores",
        ["cell", "scorer", "run", baseline, "there", "difference of the same prompts"],
        [_score_row(change) for change in found.scores],
        "Intervals and verdicts are at 95 % for each score alone. Where a verdict names a number of prompts, fewer "
        "can never be significant.",
    )
    yield Table(
        "Losses, nats a token",
        ["cell", "run", baseline, "there", "difference of the same windows"],
        [_loss_row(change) for change in found.losses],
        "e to a loss is the perplexity; +0.0488 nats are 5 % more of it. Intervals and verdicts are at 95 % for each "
        "loss alone. Where a verdict names a number of windows, fewer can never be significant.",
    )
    changes = [change for change in found.memory if change.what in EXACT or _is_large(change)]
    yield Table(
        "Memory",
        ["cell", "what", "run", baseline, "there", "change"],
        [_memory_row(change) for change in changes],
        f"Changes under {SMALL_CHANGE * 100:g} % are left out, except of {', '.join(EXACT)}.",
    )
    yield Table("What else differs", ["", *found.runs], [[key, *row] for key, row in found.environment.items()])
    times = [[name, *(f"{number(ms) or '–'}" for ms in row)] for name, row in found.milliseconds.items()]
    yield Table("Absolute times, ms; not judged", ["cell", *found.runs], times)


def _time_rows(found: Comparison) -> Iterator[list[str]]:
    """A row a ratio, in the order of its worst verdict."""
    by_ratio: dict[tuple[str, str], dict[str, TimeChange]] = {}
    for change in found.times:
        by_ratio.setdefault((change.cell, change.ratio), {})[change.run] = change
    for changes in by_ratio.values():
        first = next(iter(changes.values()))
        there = [_time_cell(changes[run]) if run in changes else "–" for run in found.runs[1:]]
        yield [first.name, f"{first.ratio.removeprefix('speedup_')} ({first.against})", number(first.before), *there]


def _time_cell(change: TimeChange) -> str:
    if change.time_ratio is None:
        return f"{change.verdict}: {change.why}"
    low, high = change.ci_low, change.ci_high
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    why = f": {change.why}" if change.why else ""
    return f"{number(change.after)}, ×{change.time_ratio:.3f}{interval} {change.verdict}{why}"


def _score_row(change: ScoreChange) -> list[str]:
    before, after = _before_and_after(change)
    p = "" if change.p is None else f", p {change.p:.3f}"
    return [change.name, change.scorer, change.run, before, after, _said(change, p)]


def _loss_row(change: LossChange) -> list[str]:
    return [change.name, change.run, *_before_and_after(change), _said(change)]


def _before_and_after(change: PairedChange) -> list[str]:
    return ["–" if mean is None else change.written(mean) for mean in (change.before, change.after)]


def _said(change: PairedChange, p: str = "") -> str:
    """The difference of the same prompts and what may be said of it."""
    if change.difference is None:
        return f"no {change.noun} in common was kept: {change.verdict}"
    ends = [change.written(end, "+") for end in (change.ci_low, change.ci_high) if end is not None]
    interval = f" [{', '.join(ends)}]" if ends else ""
    difference = change.written(change.difference, "+")
    return f"{difference}{interval}{p}, {counted(change.prompts, change.noun)}: {change.verdict}"


def _memory_row(change: MemoryChange) -> list[str]:
    unit = 1 / 2**20 if change.what.endswith("_bytes") else 1.0
    what = change.what.removesuffix("_bytes") + " MiB" if unit != 1.0 else change.what
    grown = f"{(change.after / change.before - 1) * 100:+.1f} %" if change.before else "–"
    said = f"{grown}, passes overlap" if change.overlap else grown
    return [change.name, what, change.run, number(change.before, unit), number(change.after, unit), said]


def _is_large(change: MemoryChange) -> bool:
    return not change.before or abs(change.after / change.before - 1) >= SMALL_CHANGE
