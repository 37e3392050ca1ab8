"""Several runs side by side: in what their machines differ, and what became of the cells they share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pcbench.report.page.manifests import side_by_side
from pcbench.report.page.parts import Block, Section
from pcbench.report.page.tables import Align, Table, filled
from pcbench.report.reading.results import Entry, Results
from pcbench.report.wording import Estimate, counted, interval, number, signed, spread

__all__ = ["runs"]


@dataclass(frozen=True)
class Measure:
    """A number of a cell that runs are held against each other by.

    Args:
        title: with the unit.
        of: its value; sign: 1 where more is better, −1 where less is.
        interval: its interval as text.
        share: whether values are compared by their difference in points and not by their ratio.
    """

    title: str
    of: Callable[[Entry], float | None]
    sign: int
    interval: Callable[[Entry], str] = lambda entry: ""
    share: bool = False


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


MEASURES = (
    Measure("speed-up over full attention (×)", lambda e: _value(e.vs_full), 1, lambda e: interval(e.vs_full)),
    Measure("speed-up over the reference (×)", lambda e: _value(e.vs_reference), 1, lambda e: interval(e.vs_reference)),
    Measure("speed-up over baselines (×)", lambda e: _value(e.vs_baseline), 1, lambda e: interval(e.vs_baseline)),
    Measure("p50 (ms)", lambda e: e.record.ms_p50 if e.timed else None, -1),
    Measure("peak (MiB)", lambda e: e.record.peak_bytes / (1 << 20) if e.usable and e.record.peak_bytes else None, -1),
    Measure(
        "score (×100)",
        lambda e: e.score.value * 100 if e.score else None,
        1,
        lambda e: spread(e.score.low, e.score.high) if e.score else "",
        True,
    ),
)


def runs(results: Results) -> Section | None:
    """What differs, then a table a measure; None for one run."""
    if len(results.runs) < 2:
        return None
    cells: dict[str, dict[str, Entry]] = {}
    for entry in results.entries:
        cells.setdefault(entry.record.cell, {})[entry.run] = entry
    shared = [found for found in cells.values() if len(found) > 1]
    differing = side_by_side(results.runs, differing=True)
    blocks = [Block("What differs", tables=[differing] if differing.rows else [])]
    tables = [made for measure in MEASURES if (made := _table(results, measure, shared)) is not None]
    notes = [
        f"{counted(len(shared), 'cell')} of {len(cells):,} stand in more than one run; the worst change comes first."
    ]
    notes.append("Times of different machines or days say little; the ratios to a baseline of the same run do.")
    blocks.append(Block("Cells", notes=notes, tables=tables))
    return Section("runs", "Runs side by side", "The same cells in every run that has them.", blocks)


def _table(results: Results, measure: Measure, shared: Sequence[dict[str, Entry]]) -> Table | None:
    ranked = []
    for found in shared:
        values = {run: value for run, e in found.items() if (value := measure.of(e)) is not None}
        scored = {(e.record.scorer, e.record.task) for e in found.values()}
        if len(values) < 2 or (measure.share and len(scored) > 1):
            continue
        change = _change(list(values.values()), measure)
        ranked.append((measure.sign * change, _row(results, measure, found, change)))
    ranked.sort(key=lambda pair: pair[0])
    titles: list[tuple[str, Align]] = [("cell", "text"), *((run.name, "number") for run in results.runs)]
    titles += [(f"{run.name}, 95 %", "text") for run in results.runs]
    titles.append(("last minus first (points)" if measure.share else "last over first (%)", "number"))
    return filled(f"By {measure.title}", titles, [row for _, row in ranked]) if ranked else None


def _change(values: list[float], measure: Measure) -> float:
    """Last against first, in points or per cent."""
    if measure.share:
        return values[-1] - values[0]
    return (values[-1] / values[0] - 1) * 100 if values[0] else 0.0


def _row(results: Results, measure: Measure, found: dict[str, Entry], change: float) -> list[str]:
    names = [run.name for run in results.runs]
    any_ = next(iter(found.values()))
    cell = any_.name.replace(f" · {any_.run}", "", 1)
    values = [number(measure.of(found[name])) if name in found else "" for name in names]
    intervals = [measure.interval(found[name]) if name in found else "" for name in names]
    return [cell, *values, *intervals, signed(change, 1)]
