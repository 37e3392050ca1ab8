"""Decoding: time of a token of the answer, and against full attention."""

from collections.abc import Callable
from dataclasses import replace

from pcbench.report.figures import Point, Scale
from pcbench.report.page.parts import Block, Section, length_block
from pcbench.report.page.tables import Column, identity, table
from pcbench.report.reading.results import Entry, Results
from pcbench.report.wording import Estimate, claim, interval, milliseconds, number

__all__ = ["decoding"]

Value = Callable[[Entry], Estimate | None]


def decoding(results: Results) -> Section | None:
    """Milliseconds a token and the ratio to full attention, by context length; None where nothing was decoded."""
    shown = [e for e in results.shown_in("decoding") if e.decode is not None]
    if not shown:
        return None
    blocks = [_figures("decode", shown, lambda e: e.decode, _say_time, "time", "decode, ms a token", "A token")]
    against = [e for e in shown if e.decode_vs_full is not None]
    if against:
        block = _figures(
            "decode-vs-full", against, lambda e: e.decode_vs_full, _say_ratio, "ratio", "decoding speed-up",
            "Against full attention",
        )  # fmt: skip
        note = (
            "Ratio of the medians of interleaved passes; above 1 decoding is faster than full attention's in the run."
        )
        blocks.append(replace(block, notes=[note, *block.notes]))
    columns = [
        *identity(results),
        Column("decode (ms/token)", lambda e: number(e.decode.value) if e.decode else ""),
        Column("decode, 95 %", lambda e: interval(e.decode), "text"),
        Column("answers timed", lambda e: number(len(e.record.decode_samples_ms or ()) or None)),
        Column("vs full (×)", lambda e: number(e.decode_vs_full.value) if e.decode_vs_full else ""),
        Column("vs full, 95 %", lambda e: interval(e.decode_vs_full), "text"),
        Column("reading", lambda e: _reading(e.decode_vs_full) if e.decode_vs_full else "", "text"),
        Column("KV (MiB)", lambda e: number(e.record.kv_bytes, 1 / (1 << 20))),
    ]
    return Section(
        "decoding",
        "Decoding",
        "Median over the timed passes of each answer's median step after its first token. A hollow marker has no "
        "interval, which needs 5 passes.",
        [*blocks, Block(tables=[table("Decoding, one row a cell", columns, shown)])],
    )


def _figures(
    name: str, entries: list[Entry], value: Value, say: Callable[[Entry], str], scale: Scale, ylabel: str, title: str
) -> Block:
    def point(entry: Entry) -> Point:
        return Point(entry.series, entry.record.context_tokens or 0, *(value(entry) or (None, None, None)))

    return length_block(name, entries, point, say, scale, ylabel, title=title)


def _say_time(entry: Entry) -> str:
    return milliseconds(entry.decode.value) if entry.decode else ""


def _say_ratio(entry: Entry) -> str:
    found = entry.decode_vs_full
    return f"{number(found.value)}× {interval(found)} ({_reading(found)})" if found else ""


def _reading(found: Estimate) -> str:
    return claim(found, 1.0, "faster", "slower")
