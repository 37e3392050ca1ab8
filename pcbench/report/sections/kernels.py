"""Single ops at one shape: times, rates, and the ratio to every baseline."""

from pcbench.report.page.parts import Block, Section
from pcbench.report.page.tables import Column, Table, identity, parity, table
from pcbench.report.reading.results import Entry, Results
from pcbench.report.wording import Estimate, claim, interval, number, percent
from pcbench.statistics import ratio_interval

__all__ = ["kernels"]

FLOORS = "A floor does less than the op: its matmul or its copy alone, or the op itself without a part."


def kernels(results: Results) -> Section | None:
    """Times of every op, reference and baseline, then a row a pair; None without records of kernels."""
    shown = results.shown_in("kernels")
    if not shown:
        return None
    columns = [
        *identity(results, status=any(e.record.status != "ok" for e in shown)),
        *([] if results.varies("dtype") else [Column("dtype", lambda e: e.record.dtype, "text", last=True)]),
        Column("p50 (ms)", lambda e: number(e.record.ms_p50) if e.timed else ""),
        Column("p10 to p90 (ms)", _range, "text"),
        Column("rounds", lambda e: number(e.record.repeats) if e.timed else ""),
        Column("TFLOP/s", lambda e: number(e.record.tflops) if e.timed else ""),
        Column("GiB/s", lambda e: number(e.record.gib_per_s) if e.timed else ""),
        Column("of ceiling (%)", lambda e: percent(e.record.ceiling_ratio) if e.timed else ""),
        Column("allocated (MiB)", lambda e: number(e.record.peak_bytes, 1 / (1 << 20)) if e.timed else ""),
        Column("parity (error / bound)", parity),
    ]
    pairs = _pairs(results)
    tables = [table("Kernels, one row an op or baseline at a shape", columns, shown)]
    blocks = [Block("Times and rates", tables=tables)]
    if pairs.rows:
        floors = any(e.record.method.startswith("floor-") for e in shown)
        blocks.append(Block("Against every baseline", notes=[FLOORS] if floors else [], tables=[pairs]))
    return Section(
        "kernels",
        "Kernels",
        "Median of the rounds, in which op, reference and baselines take turns. On a GPU: one replay of a graph with "
        "cold caches; on a CPU: the mean of calls that fill two milliseconds, with warm caches, so that small shapes "
        "may exceed the copy bandwidth. Rates count what any implementation must compute or move; the ceiling is the "
        "matmul rate or the copy bandwidth of the same run.",
        blocks,
    )


def _range(entry: Entry) -> str:
    r = entry.record
    return f"{number(r.ms_p10)} to {number(r.ms_p90)}" if entry.timed and r.ms_p10 is not None else ""


def _pairs(results: Results) -> Table:
    """Each checked op with the other entries of its group."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in results.shown_in("kernels"):
        if entry.timed:
            groups.setdefault((entry.run, entry.record.group), []).append(entry)
    who = [column for column in identity(results) if not column.last]
    rows = []
    for entries in groups.values():
        for own in (e for e in entries if e.record.method == e.record.op and e.record.backend != "reference"):
            for other in entries:
                found = _ratio(own, other) if other is not own else None
                if found is not None:
                    cells = [other.series.label, number(found.value), interval(found)]
                    rows.append([column.text(own) for column in who] + [*cells, claim(found, 1.0, "faster", "slower")])
    used = [i for i in range(len(who)) if any(row[i] for row in rows)]
    titles = [(who[i].title, who[i].align) for i in used]
    titles += [("against", "text"), ("speed-up (×)", "number"), ("95 % interval", "text"), ("reading", "text")]
    kept = [[*(row[i] for i in used), *row[len(who) :]] for row in rows]
    return Table("Kernels against baselines, one row a pair", titles, kept, filterable=True)


def _ratio(own: Entry, other: Entry) -> Estimate | None:
    """Median time of the other over the op's, over rounds that both took part in."""
    ours, theirs = own.record.samples_ms, other.record.samples_ms
    if not ours or not theirs or len(ours) != len(theirs):
        return None
    return Estimate(*ratio_interval(theirs, ours))
