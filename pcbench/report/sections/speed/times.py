"""Time against context length, with the line that theory expects and the lengths at which cells ended."""

from collections.abc import Sequence

from pcbench.report.figures import Curve, Point
from pcbench.report.page.parts import Block, Section, by_panel, length_block
from pcbench.report.page.tables import Align, Column, Table, identity, median_interval, parity, table
from pcbench.report.reading.results import Entry, Results, Series
from pcbench.report.verdict.theory import LENGTHS, Fit, fit
from pcbench.report.wording import milliseconds, number, percent

__all__ = ["times"]

ABOVE = "A hollow marker above the frame is a cell that ended without a time (OOM: out of memory); the table says how."
THEORY = (
    "Dashed: the least-squares line linear × n + quadratic × n² through the medians of a series with "
    f"{LENGTHS} or more lengths, drawn where it was fitted."
)
Fits = dict[tuple[str, Series], Fit]


def times(results: Results) -> Section | None:
    """Prefill times with p10–p90; None when nothing was timed."""
    entries = results.shown_in("times")
    timed = {e.panel for e in entries if e.timed}
    if not timed:
        return None
    shown = [e for e in entries if e.panel in timed and (e.timed or not e.usable)]
    seconds = max(e.record.ms_p50 or 0 for e in shown if e.timed) >= 1e3
    divisor = 1e3 if seconds else 1.0
    ylabel = f"prefill, {'seconds' if seconds else 'milliseconds'}"
    fits = _fits(shown)
    ended = not all(e.timed for e in shown)
    notes = [ABOVE] * ended + [THEORY] * bool(fits)

    def curve(panel: str, series: Series) -> Curve | None:
        found = fits.get((panel, series))
        return found and Curve(series, (found.shortest, found.longest), lambda n: found.ms(n) / divisor)

    figures = length_block("time", shown, lambda e: _point(e, divisor), _say, "time", ylabel, notes=notes, curves=curve)
    columns = [
        *identity(results, status=ended),
        Column("p50 (ms)", lambda e: number(e.record.ms_p50) if e.timed else ""),
        Column("p10 (ms)", lambda e: number(e.record.ms_p10) if e.timed else ""),
        Column("p90 (ms)", lambda e: number(e.record.ms_p90) if e.timed else ""),
        Column("p50, 95 %", median_interval, "text"),
        Column("noise (p90−p10)/p50 (%)", lambda e: percent(e.noise)),
        Column("repeats", lambda e: number(e.record.repeats) if e.timed else ""),
        Column("warm-up passes", _warmup_passes),
        Column("first pass over p50 (ratio)", lambda e: number(e.first_pass)),
        Column("p50 by the wall clock (ms)", lambda e: number(e.record.wall_ms_p50) if e.timed else ""),
        Column("parity (error / bound)", parity),
    ]
    tables = [table("Times, one row a cell", columns, shown)]
    tables += [made for made in (_theory(fits), _longest(shown)) if made is not None]
    return Section(
        "time",
        "Time against context length",
        "Median of the repeats with a bar from the 10th to the 90th percentile, on logarithmic axes. Lower is better.",
        [figures, Block(tables=tables)],
    )


def _fits(entries: Sequence[Entry]) -> Fits:
    """(panel, series) → its line, where there are lengths enough."""
    points: dict[tuple[str, Series], dict[int, float]] = {}
    for e in entries:
        if e.timed and e.record.context_tokens and e.record.ms_p50:
            points.setdefault((e.panel, e.series), {})[e.record.context_tokens] = e.record.ms_p50
    return {place: line for place, found in points.items() if (line := fit(list(found.items()))) is not None}


def _theory(fits: Fits) -> Table | None:
    if not fits:
        return None
    titles: list[tuple[str, Align]] = [
        ("series", "text"),
        ("workload", "text"),
        ("linear (ms per 1,000 tokens)", "number"),
    ]
    titles += [("quadratic (ms per 1,000² tokens)", "number"), ("quadratic part at the longest (%)", "number")]
    titles += [("largest deviation (%)", "number")]
    rows = []
    for (panel, series), line in fits.items():
        share = line.quadratic * line.longest**2 / line.ms(line.longest)
        numbers = [number(line.linear, 1e3), number(line.quadratic, 1e6), percent(share), percent(line.deviation)]
        rows.append([series.label, panel, *numbers])
    return Table("Fitted lines, one row a series", titles, rows)


def _longest(entries: Sequence[Entry]) -> Table | None:
    """Where each series stopped; None where all have every length."""
    rows = []
    for panel, found in by_panel(entries).items():
        for series in dict.fromkeys(e.series for e in found):
            mine = [e for e in found if e.series == series]
            longest = max((e.record.context_tokens or 0 for e in mine if e.timed), default=0)
            beyond = [e for e in mine if (e.record.context_tokens or 0) > longest]
            if beyond:
                said = "; ".join(f"{e.record.context_tokens:,}: {_ending(e)}" for e in beyond)
                rows.append([series.label, panel, number(longest) if longest else "none", said])
    titles: list[tuple[str, Align]] = [("series", "text"), ("workload", "text"), ("longest context timed", "number")]
    return Table("Where series end", [*titles, ("longer ones", "text")], rows) if rows else None


def _warmup_passes(entry: Entry) -> str:
    return "" if entry.first_pass is None else number(len(entry.record.warmup_ms or ()))


def _point(entry: Entry, divisor: float) -> Point:
    r = entry.record
    low, high = ((x / divisor if x is not None else None) for x in (r.ms_p10, r.ms_p90))
    value = r.ms_p50 / divisor if entry.timed and r.ms_p50 is not None else None
    mark = "OOM" if r.status == "out_of_memory" else ""
    return Point(entry.series, r.context_tokens or 0, value, low, high, mark)


def _say(entry: Entry) -> str:
    r = entry.record
    if not entry.timed or r.ms_p50 is None:
        return _ending(entry)
    text = milliseconds(r.ms_p50)
    if r.ms_p10 is not None and r.ms_p90 is not None:
        text += f" ({milliseconds(r.ms_p10)} to {milliseconds(r.ms_p90)})"
    return text


def _ending(entry: Entry) -> str:
    return entry.record.status if entry.record.status != "ok" else "without parity, not shown"
