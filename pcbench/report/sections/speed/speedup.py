"""The two speed-ups, never in one figure or one table."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from pcbench.report.figures import Point
from pcbench.report.page.parts import Block, Section, length_block
from pcbench.report.page.tables import Column, identity, parity, table
from pcbench.report.reading.results import Entry, Results
from pcbench.report.verdict.changes import speed_claim
from pcbench.report.wording import Estimate, interval, number

__all__ = ["speedup"]


def speedup(results: Results) -> Section | None:
    """A block a baseline, one against the reference, and what the baseline was chosen of; None without a ratio."""
    baselines = sorted({e.record.baseline for e in results.shown_in("speedup") if e.vs_full and e.record.baseline})
    blocks = [
        _block(
            results,
            "vs-full",
            "Against full attention",
            f"Baseline: {', '.join(baselines) or 'not named by the records'}: exact attention by the stock kernel, "
            "the same model, in the same run.",
            lambda e: e.vs_full,
            [Column("baseline", lambda e: e.record.baseline or "", "text", last=True)],
        ),
        _block(
            results,
            "vs-reference",
            "Against the reference",
            "Baseline: the same method in pure PyTorch. This is what the kernels do, not what the method's idea does.",
            lambda e: e.vs_reference,
            [],
        ),
    ]
    present = [block for block in (*blocks, _kernels(results)) if block is not None]
    if not any(blocks):
        return None
    return Section(
        "speedup",
        "Speed-up",
        "Ratio of the medians of interleaved repeats with its 95 % interval; above 1 is faster than the named baseline."
        " A hollow marker has no interval, which needs 5 repeats. The two comparisons answer different questions.",
        present,
    )


def _block(
    results: Results,
    name: str,
    title: str,
    baseline: str,
    value: Callable[[Entry], Estimate | None],
    against: Sequence[Column],
) -> Block | None:
    shown = [e for e in results.shown_in("speedup") if value(e) is not None]
    if not shown:
        return None

    def point(entry: Entry) -> Point:
        return Point(entry.series, entry.record.context_tokens or 0, *(value(entry) or (None, None, None)))

    def say(entry: Entry) -> str:
        found = value(entry)
        assert found is not None, "only entries with a speed-up are shown"
        return f"{number(found.value)}× {interval(found)} ({speed_claim(results, entry, found)})"

    columns = [
        *identity(results),
        Column("speed-up (×)", lambda e: number((value(e) or (None,))[0])),
        Column("95 % interval", lambda e: interval(value(e)), "text"),
        Column("reading", lambda e: speed_claim(results, e, value(e) or Estimate(1, None, None)), "text"),
        Column("repeats", lambda e: number(e.record.repeats)),
        Column("parity (error / bound)", parity),
        *against,
    ]
    rows = table(f"Speed-up {title.lower()}, one row a cell", columns, shown)
    figures = length_block(name, shown, point, say, "ratio", "speed-up", title=title, notes=[baseline])
    return replace(figures, tables=[rows])


def _kernels(results: Results) -> Block | None:
    """Full attention's pass by each kernel that was tried."""
    tried = [e for e in results.shown_in("speedup") if e.record.sdpa_ms]
    if not tried:
        return None
    names = dict.fromkeys(name for e in tried for name in e.record.sdpa_ms or {})
    columns = [
        *identity(results),
        *(Column(f"{name} (ms)", lambda e, name=name: number((e.record.sdpa_ms or {}).get(name))) for name in names),
    ]
    note = "The fastest is the baseline; a kernel without a time does not run there, or its work does not fit."
    return Block(
        "Kernels of full attention",
        notes=[note],
        tables=[table("A pass of full attention by each kernel of torch's SDPA, one row a cell", columns, tried)],
    )
