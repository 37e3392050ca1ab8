"""Time against context length."""

from pcbench.report.page import Block, Section, length_block
from pcbench.report.plots import Point
from pcbench.report.results import Entry, Results
from pcbench.report.tables import Column, identity, parity, table
from pcbench.report.wording import milliseconds, number, percent

__all__ = ["times"]

ABOVE = "A hollow marker above the frame is a cell that ended without a time; the table says how."


def times(results: Results) -> Section | None:
    """Prefill times with p10–p90; None when nothing was timed."""
    timed = {e.panel for e in results.methods if e.timed}
    if not timed:
        return None
    shown = [e for e in results.methods if e.panel in timed and (e.timed or not e.usable)]
    seconds = max(e.record.ms_p50 or 0 for e in shown if e.timed) >= 1e3
    divisor = 1e3 if seconds else 1.0
    ylabel = f"prefill, {'seconds' if seconds else 'milliseconds'}"
    notes = [] if all(e.timed for e in shown) else [ABOVE]
    figures = length_block("time", shown, lambda e: _point(e, divisor), _say, "time", ylabel, notes=notes)
    columns = [
        *identity(results, status=bool(notes)),
        Column("parity (error / bound)", parity),
        Column("p50 (ms)", lambda e: number(e.record.ms_p50) if e.timed else ""),
        Column("p10 (ms)", lambda e: number(e.record.ms_p10) if e.timed else ""),
        Column("p90 (ms)", lambda e: number(e.record.ms_p90) if e.timed else ""),
        Column("noise (p90−p10)/p50 (%)", lambda e: percent(e.noise)),
        Column("repeats", lambda e: number(e.record.repeats) if e.timed else ""),
        Column("prefill (tokens/s)", lambda e: number(e.record.prefill_tokens_per_s) if e.timed else ""),
        Column("chunks/s", lambda e: number(e.record.chunks_per_s) if e.timed else ""),
        Column("decode (ms/token)", lambda e: number(e.record.decode_ms_per_token) if e.timed else ""),
    ]
    return Section(
        "time",
        "Time against context length",
        "Median of the repeats with a bar from the 10th to the 90th percentile, on logarithmic axes. Lower is better.",
        [figures, Block(tables=[table("Times, one row a cell", columns, shown)])],
    )


def _point(entry: Entry, divisor: float) -> Point:
    r = entry.record
    low, high = ((x / divisor if x is not None else None) for x in (r.ms_p10, r.ms_p90))
    value = r.ms_p50 / divisor if entry.timed and r.ms_p50 is not None else None
    return Point(entry.series, r.context_tokens or 0, value, low, high)


def _say(entry: Entry) -> str:
    r = entry.record
    if not entry.timed or r.ms_p50 is None:
        return r.status if r.status != "ok" else "without parity, not shown"
    text = milliseconds(r.ms_p50)
    if r.ms_p10 is not None and r.ms_p90 is not None:
        text += f" ({milliseconds(r.ms_p10)} to {milliseconds(r.ms_p90)})"
    return text
