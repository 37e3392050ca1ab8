"""Peak memory, its phases, the KV cache measured against its prediction, and what fits in a budget."""

from collections.abc import Callable, Sequence

from pcbench.report.figures import Bar, Point, grouped
from pcbench.report.figures.svg import swatch
from pcbench.report.page.parts import MAX_PANELS, Block, Legend, Picture, Section, by_panel, length_block
from pcbench.report.page.rows import rows_block
from pcbench.report.page.tables import Column, identity, table
from pcbench.report.reading.results import Entry, Results
from pcbench.report.verdict.changes import kv_gain, memory_claim, memory_gain
from pcbench.report.wording import Estimate, number, peak_spread, peak_text

__all__ = ["memory"]

MIB = 1 / (1 << 20)
MAX_BARS, SAID, FEW_PANELS = 12, 6, 2
FIELDS = ("peak_bytes", "kv_bytes", "reserved_bytes", "driver_bytes", "phase_bytes", "budget_bytes")


def memory(results: Results) -> Section | None:
    """Peak, KV, phases and budgets; None without any of them."""
    shown = [e for e in results.shown_in("memory") if e.usable and any(getattr(e.record, name) for name in FIELDS)]
    if not shown:
        return None
    columns = [
        *identity(results),
        Column("peak (MiB)", lambda e: number(e.record.peak_bytes, MIB)),
        Column("peak, all passes (MiB)", lambda e: peak_spread(e.record.peak_samples_bytes), "text"),
        Column("passes", lambda e: number(len(e.record.peak_samples_bytes or ()) or None)),
        Column("peak, times smaller than full's (×)", lambda e: _gain(memory_gain(results, e))),
        Column("reading", lambda e: "" if (gain := memory_gain(results, e)) is None else memory_claim(gain), "text"),
        Column("allocator reserved (MiB)", lambda e: number(e.record.reserved_bytes, MIB)),
        Column("driver, whole GPU (MiB)", lambda e: number(e.record.driver_bytes, MIB)),
        Column("weights (MiB)", lambda e: number(e.record.weights_bytes, MIB)),
        Column("KV measured (MiB)", lambda e: number(e.record.kv_bytes, MIB)),
        Column("KV predicted (MiB)", lambda e: number(e.record.kv_bytes_predicted, MIB)),
        Column("measured / predicted", lambda e: number(_ratio(e.record.kv_bytes, e.record.kv_bytes_predicted))),
        Column("KV, times smaller than full's (×)", lambda e: _gain(kv_gain(results, e))),
        Column("kept tokens", lambda e: number(e.record.kept_tokens)),
    ]
    blocks = [_peak(shown), _kv(shown), Block(tables=[table("Memory, one row a cell", columns, shown)])]
    blocks += [_phases(results, shown), _budget(results, shown)]
    return Section(
        "memory",
        "Memory",
        "Peaks are medians of untimed passes, with the least and the most. "
        "On a GPU a peak is the allocator's, weights included; "
        "on a CPU it is what the process grew by after loading the model.",
        [block for block in blocks if block is not None],
    )


def _peak(shown: list[Entry]) -> Block | None:
    placed = [e for e in shown if e.record.peak_bytes is not None]
    return _sizes("peak", placed, _peaks, _say_peak, "peak, MiB", "Peak")


def _peaks(entry: Entry) -> Estimate | None:
    passes = entry.record.peak_samples_bytes
    return _mib_of(entry.record.peak_bytes, min(passes), max(passes)) if passes else _mib_of(entry.record.peak_bytes)


def _say_peak(entry: Entry) -> str:
    return peak_text(entry.record.peak_bytes, entry.record.peak_samples_bytes)


def _kv(shown: list[Entry]) -> Block | None:
    placed = [e for e in shown if e.record.kv_bytes is not None]
    notes = ["Markers are measured, the dotted line is predicted from the model's shape."]

    def say(entry: Entry) -> str:
        predicted = entry.record.kv_bytes_predicted
        return _mib(entry.record.kv_bytes) + (f", predicted {_mib(predicted)}" if predicted else "")

    return _sizes(
        "kv", placed, lambda e: _mib_of(e.record.kv_bytes), say, "KV cache, MiB", "KV cache", notes, predicted=True
    )


def _sizes(
    name: str,
    placed: list[Entry],
    size: Callable[[Entry], Estimate | None],
    say: Callable[[Entry], str],
    label: str,
    title: str,
    notes: Sequence[str] = (),
    *,
    predicted: bool = False,
) -> Block | None:
    """Against the context length; many workloads of one length are rows of one figure."""
    if not placed:
        return None
    panels = by_panel(placed)
    single = all(len({e.record.context_tokens for e in entries}) == 1 for entries in panels.values())
    if single and len(panels) > FEW_PANELS:
        return rows_block(name, placed, lambda e: size(e) or Estimate(0.0, None, None), say, label, title=title)

    def expected(entry: Entry) -> Point | None:
        bytes_ = entry.record.kv_bytes_predicted
        return _point(entry, _mib_of(bytes_)) if predicted and bytes_ else None

    drawn = notes if any(expected(e) for e in placed) else ()
    return length_block(
        name, placed, lambda e: _point(e, size(e)), say, "bytes", label, title=title, notes=drawn, expected=expected
    )


def _phases(results: Results, shown: list[Entry]) -> Block | None:
    """The highest point of each named phase."""
    placed = [e for e in shown if e.record.phase_bytes]
    if not placed:
        return None
    names = list(dict.fromkeys(name for e in placed for name in e.record.phase_bytes or {}))
    pictures = []
    for i, (panel, entries) in enumerate(list(by_panel(placed).items())[:MAX_PANELS]):
        longest = max(e.record.context_tokens or 0 for e in entries)
        drawn = [e for e in entries if (e.record.context_tokens or 0) == longest][:MAX_BARS]
        bars = [Bar(e.series.label, {k: v * MIB for k, v in (e.record.phase_bytes or {}).items()}) for e in drawn]
        said = [
            f"{bar.label}: " + ", ".join(f"{name} {number(bar.parts[name])} MiB" for name in names if name in bar.parts)
            for bar in bars[:SAID]
        ]
        svg = grouped(f"phases-{i}", f"Memory by phase, {panel}", bars, names, "MiB")
        pictures.append(Picture(panel, svg, f"At {longest:,} tokens, {'; '.join(said)}."))
    legend = [Legend(swatch(i), name) for i, name in enumerate(names)]
    notes = ["Highest in each phase, so phases do not add up. Drawn is the longest length; the table holds all."]
    columns = [*identity(results), *(_phase(name) for name in names)]
    return Block("Phases", pictures, legend, notes, [table("Memory by phase, one row a cell", columns, placed)])


def _phase(name: str) -> Column:
    return Column(f"{name} (MiB)", lambda e: number((e.record.phase_bytes or {}).get(name), MIB))


def _budget(results: Results, shown: list[Entry]) -> Block | None:
    """Chunks and context that fit in a given number of bytes."""
    placed = [e for e in shown if e.record.budget_bytes is not None]
    if not placed:
        return None
    columns = [
        *identity(results),
        Column("budget (MiB)", lambda e: number(e.record.budget_bytes, MIB)),
        Column("chunks that fit", lambda e: number(e.record.chunks_that_fit)),
        Column("fit ratio, to without token eviction", lambda e: number(e.record.fit_ratio)),
        Column("longest context, every chunk kept (tokens)", lambda e: number(e.record.longest_context_tokens)),
    ]
    counted = [e for e in placed if e.record.chunks_that_fit is not None][:MAX_BARS]
    pictures = []
    if counted:
        bars = [
            Bar(f"{e.series.label} {e.record.context_tokens or 0:,}", {"": float(e.record.chunks_that_fit or 0)})
            for e in counted
        ]
        said = "; ".join(_fits(e) for e in counted[:SAID])
        pictures = [
            Picture(
                "Chunks that fit", grouped("fit", "Chunks that fit in the budget", bars, [""], "chunks"), f"{said}."
            )
        ]
    notes = [
        "The fit ratio: chunks that fit in the budget over those that fit without token eviction. It is a count of "
        "what fits, not a speed. Slots are rounded to 32 rows, so the ratio of short contexts is coarse."
    ]
    return Block("What fits in a budget", pictures, [], notes, [table("Budgets, one row a cell", columns, placed)])


def _fits(entry: Entry) -> str:
    r = entry.record
    ratio = f", {number(r.fit_ratio, digits=3)}× those without token eviction" if r.fit_ratio is not None else ""
    return f"{entry.series.label}: {number(r.chunks_that_fit)} chunks in {_mib(r.budget_bytes)}{ratio}"


def _point(entry: Entry, size: Estimate | None) -> Point:
    # nothing has no place on a log axis
    value, low, high = size if size and size.value else (None, None, None)
    return Point(entry.series, entry.record.context_tokens or 0, value, low, high)


def _mib_of(size: int | None, low: int | None = None, high: int | None = None) -> Estimate | None:
    """In MiB; what was taken once is drawn without a bar."""
    if size is None:
        return None
    return Estimate(size * MIB, (size if low is None else low) * MIB, (size if high is None else high) * MIB)


def _mib(size: int | None) -> str:
    return "not measured" if size is None else f"{number(size, MIB)} MiB"


def _gain(gain: Estimate | None) -> str:
    return "" if gain is None else number(gain.value)


def _ratio(a: int | None, b: int | None) -> float | None:
    return a / b if a is not None and b else None
