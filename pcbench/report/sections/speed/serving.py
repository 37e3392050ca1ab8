"""Serving engines: times as a client sees them, beside no time of pcbench's own."""

from pcbench.report.page.parts import Block, Section
from pcbench.report.page.tables import Column, table
from pcbench.report.reading.results import Entry, Results
from pcbench.report.wording import number

__all__ = ["serving"]


def serving(results: Results) -> Section | None:
    """One row an engine, workload and length; None where no engine was asked."""
    shown = results.served
    if not shown:
        return None
    columns = [
        Column("engine", lambda e: e.record.engine or "", "text"),
        Column("workload", lambda e: e.record.workload, "text", not results.varies("workload")),
        Column("context tokens", lambda e: number(e.record.context_tokens)),
        Column("status", lambda e: e.record.status, "status"),
        Column("first token (ms)", lambda e: number(e.record.served_ms_p50)),
        Column("first token, 95 %", _interval, "text"),
        Column("prefill by its own clock (ms)", lambda e: number(e.record.served_prefill_ms)),
        Column("decode (tokens/s)", lambda e: number(e.record.served_tokens_per_s)),
        Column("prompts", lambda e: number(len(e.record.served_samples_ms or ()) or None)),
        Column("serves", lambda e: e.record.served_model or "", "text"),
        Column("reason", lambda e: e.record.reason or "", "text"),
        *([Column("run", lambda e: e.run, "text", last=True)] if len(results.runs) > 1 else []),
    ]
    return Section(
        "serving",
        "Serving engines",
        "The prompts of full attention, asked of running servers: medians of the time from the request to the first "
        "token, with HTTP and whatever else a server does, and of the tokens a second after it. An engine has times "
        "where its greedy answers are those of full attention. Its weights, precision and machine are its own, so no "
        "ratio to a time of this report is made.",
        [Block(tables=[table("Serving engines, one row a cell", columns, shown)])],
    )


def _interval(entry: Entry) -> str:
    """Of the median; as in `median_interval`."""
    r = entry.record
    if r.served_ms_ci_low is None or r.served_ms_ci_high is None:
        return ""
    return f"[{number(r.served_ms_ci_low)}, {number(r.served_ms_ci_high)}]"
