"""Where the time of a prefill goes."""

from pcbench.report.figures import Bar, stacked
from pcbench.report.figures.svg import swatch
from pcbench.report.page.parts import MAX_PANELS, Block, Legend, Picture, Section, by_panel
from pcbench.report.page.tables import Column, identity, table
from pcbench.report.reading.results import Entry, Results
from pcbench.report.wording import milliseconds, number, percent

__all__ = ["stages"]

MAX_BARS = 24
# lies behind the prefill
AFTER = {"decode": "the answer after it", "capture": "graphs of its steps"}


def stages(results: Results) -> Section | None:
    """Stacked stage medians of every timed cell; None without stages."""
    shown = [e for e in results.shown_in("stages") if e.timed and e.record.stages_ms]
    if not shown:
        return None
    names = list(dict.fromkeys(name for e in shown for name in _parts(e)))
    panels = by_panel(shown)
    pictures = [_picture(i, panel, rows, names) for i, (panel, rows) in enumerate(list(panels.items())[:MAX_PANELS])]
    notes = ["The dark tick is the median of the whole prefill: beyond the bar lies time outside the named stages."]
    if len(panels) > MAX_PANELS or any(len(rows) > MAX_BARS for rows in panels.values()):
        notes.append(
            f"At most {MAX_PANELS} panels of {MAX_BARS} bars are drawn, longest lengths first; the table holds all."
        )
    columns = [*identity(results), *(_stage(name) for name in names)]
    columns.append(Column("whole prefill, p50 (ms)", lambda e: number(e.record.ms_p50)))
    columns.append(Column("outside the stages (%)", _outside))
    for name, head in AFTER.items():
        if any(name in (e.record.stages_ms or {}) for e in shown):
            columns.append(_stage(name, head))
    legend = [Legend(swatch(i), name) for i, name in enumerate(names)]
    return Section(
        "stages",
        "Stages",
        "Median time of each named part of a prefill. Medians of parts need not add up to the median of the whole.",
        [Block("", pictures, legend, notes, [table("Stages, one row a cell", columns, shown)])],
    )


def _parts(entry: Entry) -> dict[str, float]:
    """The stages of the prefill itself."""
    return {name: ms for name, ms in (entry.record.stages_ms or {}).items() if name not in AFTER}


def _stage(name: str, head: str = "") -> Column:
    return Column(f"{head or name} (ms)", lambda e: number((e.record.stages_ms or {}).get(name)))


def _outside(entry: Entry) -> str:
    """What the named stages do not hold; medians of parts may add up to more than the whole."""
    whole = entry.record.ms_p50 or 0.0
    return percent(max(0.0, 1 - sum(_parts(entry).values()) / whole)) if whole else ""


def _picture(index: int, panel: str, entries: list[Entry], names: list[str]) -> Picture:
    lengths = sorted({e.record.context_tokens or 0 for e in entries}, reverse=True)
    drawn = sorted(entries, key=lambda e: lengths.index(e.record.context_tokens or 0))[:MAX_BARS]
    bars = [Bar(f"{e.series.label} {e.record.context_tokens or 0:,}", _parts(e), e.record.ms_p50 or 0.0) for e in drawn]
    longest = [e for e in drawn if e.record.context_tokens == drawn[0].record.context_tokens]
    parts = []
    for entry in longest[:6]:
        found = _parts(entry)
        said = ", ".join(f"{name} {milliseconds(found[name])}" for name in names if name in found)
        parts.append(f"{entry.series.label}: {said}")
    summary = f"At {lengths[0]:,} tokens, {'; '.join(parts)}."
    return Picture(panel, stacked(f"stages-{index}", f"Stages of a prefill, {panel}", bars, names), summary)
