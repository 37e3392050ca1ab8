"""Ratios of many runs over the commits they were measured at: one page from a folder of runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pcbench.errors import DataMissing
from pcbench.plain_files import write_for
from pcbench.report.figures.commits import Seen, over_commits
from pcbench.report.page.parts import MAX_PANELS, MAX_SERIES, Block, Picture, Section, legend_of, not_drawn
from pcbench.report.page.tables import Align, Table
from pcbench.report.page.templates import filled_in
from pcbench.report.reading.results import Entry, Results, Series
from pcbench.report.reading.runs import Run, read_runs
from pcbench.report.wording import Estimate, counted, interval, number
from pcbench.suites.labels import labels

__all__ = ["build_history"]

SAID = 6
# environment fields that make a machine: ratios of different ones are no history
MACHINE = ("gpu", "cpu", "arch", "runtime", "torch")


@dataclass(frozen=True)
class Measure:
    """A ratio to a baseline of its own run."""

    id: str
    title: str
    of: Callable[[Entry], Estimate | None]


MEASURES = (
    Measure("vs-full", "Speed-up over full attention", lambda e: e.vs_full),
    Measure("decode-vs-full", "Decoding speed-up over full attention", lambda e: e.decode_vs_full),
    Measure("vs-reference", "Speed-up over the reference in PyTorch", lambda e: e.vs_reference),
    Measure("vs-baseline", "Speed-up of kernels over their fastest baseline", lambda e: e.vs_baseline),
)


@dataclass(frozen=True, eq=False)
class Line:
    """What may be held against each other: a cell on one machine, against one baseline.

    Args:
        panel: workload, model and machine: what one figure shows.
        series: gives label, colour and marker.
        baseline: of the ratios.
        seen: number of a run → the ratio there.
    """

    panel: str
    series: Series
    baseline: str
    seen: dict[int, Estimate] = field(default_factory=dict)


def build_history(folder: Path, out: Path | None = None) -> Path:
    """Writes the page of a folder's runs.

    Args:
        folder: of runs, at any depth.
        out: the file; None is `history.html` in the folder.

    Returns:
        The path of the file.

    Raises:
        DataMissing: there is no run in the folder.
        ConfigError: a run is not what pcbench writes, or the file cannot be written.
        DiskFull: there is no room for it.
    """
    found = {path.parent for path in folder.rglob("manifest.json")}
    # inside a run's folder lies its data set, which is the same run
    places = sorted(path for path in found if path.parent not in found)
    if not places:
        raise DataMissing(f"--history: a folder of runs, got {folder} without one; give the folder above their folders")
    runs = sorted(read_runs(places), key=lambda run: str(run.manifest.get("created_at", "")))
    out = out or folder / "history.html"
    write_for("--out", out, _page(runs))
    return out


def _page(runs: Sequence[Run]) -> str:
    """Equal runs give equal text."""
    results = Results(list(runs))
    # a line's colour and marker are the same in every figure of the page
    series: dict[str, Series] = {}
    sections = [section for measure in MEASURES if (section := _section(results, measure, series)) is not None]
    said = (
        f"{counted(len(runs), 'run')} at {counted(len({run.commit for run in runs}), 'commit')} on "
        f"{counted(len({_machine(run) for run in runs}), 'machine')}, the first of {runs[0].day}, the last of "
        f"{runs[-1].day}."
    )
    if sections:
        said += (
            " Each ratio is to a baseline of its own run, with its 95 % interval. A line joins runs of one cell with "
            "equal settings, on one machine with one version of PyTorch, against one baseline; whatever differs has a "
            "line of its own. pcbench compare tells whether two runs differ."
        )
    else:
        said += " No cell of them has a ratio to a baseline."
    return filled_in("history.html.j2", title="history", sentence=said, sections=[*sections, _runs(runs)])


def _section(results: Results, measure: Measure, series: dict[str, Series]) -> Section | None:
    """Figures of the lines that have two runs or more, and a table of all."""
    lines = _lines(results, measure, series)
    if not lines:
        return None
    commits = [run.commit for run in results.runs]
    panels: dict[str, list[Line]] = {}
    for line in lines:
        if len(line.seen) > 1:
            panels.setdefault(line.panel, []).append(line)
    blocks = []
    for i, (panel, found) in enumerate(list(panels.items())[:MAX_PANELS]):
        drawn = found[:MAX_SERIES]
        picture = _picture(f"{measure.id}-{i}", panel, measure, drawn, commits)
        blocks.append(Block("", [picture], legend_of(line.series for line in drawn)))
    notes = not_drawn(max(map(len, panels.values()), default=0), len(panels))
    if not panels:
        notes.append("No cell was measured twice under equal conditions, so there is nothing to draw.")
    return Section(
        measure.id,
        measure.title,
        "Above 1 is faster than the baseline.",
        [*blocks, Block(notes=notes, tables=[_table(measure, lines, results.runs)])],
    )


def _lines(results: Results, measure: Measure, series: dict[str, Series]) -> list[Line]:
    found: dict[tuple[str, str, str], Line] = {}
    numbers = {run.name: i for i, run in enumerate(results.runs)}
    called = dict(zip(results.entries, labels([e.record for e in results.entries]), strict=True))
    for entry in results.entries:
        ratio, record = measure.of(entry), entry.record
        if ratio is None:
            continue
        machine, baseline = _machine(results.run_of(entry)), record.baseline or ""
        key = (machine, record.cell, baseline)
        if key not in found:
            tokens = "" if record.context_tokens is None else f", {record.context_tokens:,} tokens"
            label = f"{called[entry]} {record.shape}" if record.shape else f"{called[entry]}{tokens}"
            weights = f"{record.quantize} weights" if record.quantize else None
            parts = (record.op or record.workload, record.model, record.dtype, weights, machine)
            placed = series.setdefault(label, Series(len(series), label))
            found[key] = Line(" · ".join(filter(None, parts)), placed, baseline)
        found[key].seen[numbers[entry.run]] = ratio
    return list(found.values())


def _picture(name: str, panel: str, measure: Measure, lines: Sequence[Line], commits: Sequence[str]) -> Picture:
    """Only the runs that the lines have."""
    places = sorted({place for line in lines for place in line.seen})
    seen = [Seen(line.series, places.index(at), ratio) for line in lines for at, ratio in line.seen.items()]
    svg = over_commits(name, f"{measure.title}, {panel}", seen, [commits[place] for place in places], measure.title)
    said = [f"{line.series.label} {_ends(line, commits)}" for line in lines[:SAID]]
    more = f"; {len(lines) - SAID} more in the table" if len(lines) > SAID else ""
    return Picture(panel, svg, f"First and last: {'; '.join(said)}{more}.")


def _ends(line: Line, commits: Sequence[str]) -> str:
    first, last = min(line.seen), max(line.seen)
    return " and ".join(f"{number(line.seen[at].value, digits=3)}× at {commits[at]}" for at in (first, last))


def _table(measure: Measure, lines: Sequence[Line], runs: Sequence[Run]) -> Table:
    """One row a line and run."""
    titles: list[tuple[str, Align]] = [("cell", "text"), ("ratio (×)", "number"), ("95 % interval", "text")]
    titles += [("commit", "text"), ("measured", "text"), ("where", "text"), ("baseline", "text"), ("run", "text")]
    rows = []
    for line in lines:
        for at, ratio in sorted(line.seen.items()):
            run = runs[at]
            known = [line.series.label, number(ratio.value), interval(ratio), run.commit]
            rows.append([*known, run.day, line.panel, line.baseline, run.title])
    return Table(f"{measure.title}, one row a cell and run", titles, rows, filterable=True)


def _runs(runs: Sequence[Run]) -> Section:
    titles: list[tuple[str, Align]] = [("run", "text"), ("measured", "text"), ("commit", "text"), ("machine", "text")]
    titles.append(("name", "text"))
    rows = [[run.title, run.day, run.commit, _machine(run), run.name] for run in runs]
    table = Table("Runs in the order in which they were measured", titles, rows)
    return Section("runs", "Runs", "A commit with + had changes that were not committed.", [Block(tables=[table])])


def _machine(run: Run) -> str:
    environment = run.manifest.get("environment", {})
    return ", ".join(f"torch {x}" if name == "torch" else str(x) for name in MACHINE if (x := environment.get(name)))
