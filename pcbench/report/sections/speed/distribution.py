"""Raw times in the order in which they were taken."""

from statistics import median

from pcbench.report.figures import Run, in_order
from pcbench.report.page.parts import MAX_SERIES, Block, Picture, Section, legend_of, not_drawn
from pcbench.report.page.tables import Column, identity, table
from pcbench.report.reading.results import Entry, Results
from pcbench.report.wording import counted, number, signed

__all__ = ["distribution"]

FIGURES = 3
# fewer times than this have no second half worth the name
HALVES = 6


def distribution(results: Results) -> Section | None:
    """Strips of the restless groups and a row a cell; None without raw times."""
    shown = [e for e in results.entries if e.timed and e.record.samples_ms]
    if not shown:
        return None
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in shown:
        groups.setdefault((entry.run, entry.record.group), []).append(entry)
    # the restless ones are worth looking at
    ranked = sorted(groups.values(), key=lambda entries: max(_range(e) for e in entries), reverse=True)
    drawn = [entries[:MAX_SERIES] for entries in ranked[:FIGURES]]
    pictures = [_picture(results, i, entries) for i, entries in enumerate(drawn)]
    columns = [
        *identity(results),
        Column("times", lambda e: number(len(_times(e)))),
        Column("least (ms)", lambda e: number(min(_times(e)))),
        Column("most (ms)", lambda e: number(max(_times(e)))),
        Column("outliers", lambda e: number(e.record.outliers)),
        Column("second half over first (%)", _drift),
        Column("taken", lambda e: _whole(results, e), "text"),
        Column("sha256 of all", lambda e: _hash(results, e), "code"),
    ]
    notes = ["Groups with the widest range come first; their cells took turns, so a dip of the machine shows in all."]
    notes += not_drawn(max(map(len, groups.values())), 0)
    notes += [f"{FIGURES} of {len(groups)} groups are drawn; the table holds all."] * (len(groups) > FIGURES)
    if any(run.thinned for run in results.runs):
        notes.append(
            "This is a large run: of long cells every k-th time is kept here, with the sha256 of the JSON list of all; "
            "medians, percentiles and intervals in the records are of all times."
        )
    blocks = [
        Block("", pictures, legend_of(e.series for entries in drawn for e in entries), notes),
        Block(tables=[table("Raw times, one row a cell", columns, shown, filterable=True)]),
    ]
    return Section(
        "distribution",
        "Distribution",
        "Every repeat over its cell's median, in order of execution: drift, steps and outliers stay in and are seen. "
        "An outlier lies beyond 1.5 interquartile ranges; it is counted, never dropped.",
        blocks,
    )


def _times(entry: Entry) -> list[float]:
    return entry.record.samples_ms or []


def _range(entry: Entry) -> float:
    times = _times(entry)
    return (max(times) - min(times)) / (median(times) or 1.0)


def _picture(results: Results, index: int, entries: list[Entry]) -> Picture:
    title = entries[0].place
    runs = [Run(e.series, _times(e), _step(results, e)) for e in entries]
    worst = max(entries, key=_range)
    summary = (
        f"{counted(len(entries), 'cell')}; the widest is {worst.series.label}, from "
        f"{number(min(_times(worst)))} to {number(max(_times(worst)))} ms around {number(median(_times(worst)))} ms."
    )
    return Picture(title, in_order(f"order-{index}", f"Raw times in order of execution, {title}", runs), summary)


def _step(results: Results, entry: Entry) -> int:
    """One time in so many is in the report."""
    all_ = results.run_of(entry).thinned.get(entry.record.cell)
    return -(-all_.count // len(_times(entry))) if all_ else 1


def _drift(entry: Entry) -> str:
    times = _times(entry)
    if len(times) < HALVES:
        return ""
    half = len(times) // 2
    return signed((median(times[-half:]) / median(times[:half]) - 1) * 100, 1)


def _whole(results: Results, entry: Entry) -> str:
    all_ = results.run_of(entry).thinned.get(entry.record.cell)
    return f"{len(_times(entry)):,} of {all_.count:,} shown" if all_ else ""


def _hash(results: Results, entry: Entry) -> str:
    all_ = results.run_of(entry).thinned.get(entry.record.cell)
    return all_.sha256 if all_ else ""
