"""Every cell with its status and all key numbers."""

from collections.abc import Callable

from pcbench.report.page.parts import Block, Section
from pcbench.report.page.tables import Align, Column, identity, parity, table
from pcbench.report.reading.results import Entry, Results
from pcbench.report.wording import interval, number, percent, spread
from pcbench.types import Record

__all__ = ["cells"]

MIB = 1 / (1 << 20)


def cells(results: Results) -> Section | None:
    """One row a cell; None without records."""
    if not results.entries:
        return None
    columns = [
        *identity(results, status=True, exact=True),
        _speed("p50 (ms)", lambda r: number(r.ms_p50)),
        Column("p10 to p90 (ms)", _range, "text"),
        _speed("repeats", lambda r: number(r.repeats)),
        _speed("prefill (tokens/s)", lambda r: number(r.prefill_tokens_per_s)),
        _speed("decode (ms/token)", lambda r: number(r.decode_ms_per_token)),
        Column("vs full (×)", lambda e: number(e.vs_full.value) if e.vs_full else ""),
        Column("vs full, 95 %", lambda e: interval(e.vs_full), "text"),
        Column("vs reference (×)", lambda e: number(e.vs_reference.value) if e.vs_reference else ""),
        Column("vs reference, 95 %", lambda e: interval(e.vs_reference), "text"),
        Column("vs baseline (×)", lambda e: number(e.vs_baseline.value) if e.vs_baseline else ""),
        Column("vs baseline, 95 %", lambda e: interval(e.vs_baseline), "text"),
        Column("baseline", lambda e: (e.record.baseline or "") if e.vs_baseline else "", "text"),
        _speed("TFLOP/s", lambda r: number(r.tflops)),
        _speed("GiB/s", lambda r: number(r.gib_per_s)),
        _speed("of ceiling (ratio)", lambda r: number(r.ceiling_ratio)),
        _speed("peak (MiB)", lambda r: number(r.peak_bytes, MIB)),
        _speed("KV (MiB)", lambda r: number(r.kv_bytes, MIB)),
        Column("score (×100)", lambda e: percent(e.score.value) if e.score else ""),
        Column("score, 95 %", lambda e: spread(e.score.low, e.score.high) if e.score else "", "text"),
        Column("scorer", lambda e: (e.record.scorer or "") if e.score else "", "text"),
        Column("prompts", lambda e: number(e.record.n_samples) if e.score else ""),
        _speed("needle's chunk kept (×100)", lambda r: percent(r.key_chunk_kept)),
        _speed("chunks kept", lambda r: number(r.chunks_kept)),
        _speed("chunks", lambda r: number(r.chunks)),
        _speed("kept tokens", lambda r: number(r.kept_tokens)),
        Column("parity (error / bound)", parity),
        Column("reason", lambda e: e.record.reason or "", "text"),
    ]
    return Section(
        "cells",
        "Every cell",
        "All cells of the records, with their status. A cell that is not ok, or was not checked, has no speeds.",
        [Block(tables=[table("All cells", columns, results.entries, filterable=True)])],
    )


def _speed(title: str, text: Callable[[Record], str], align: Align = "number") -> Column:
    """A column that is empty where the entry's numbers may not be shown."""
    return Column(title, lambda e: text(e.record) if e.usable else "", align)


def _range(entry: Entry) -> str:
    r = entry.record
    return f"{number(r.ms_p10)} to {number(r.ms_p90)}" if entry.timed and r.ms_p10 is not None else ""
