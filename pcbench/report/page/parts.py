"""The parts a page is made of; the templates know these and nothing of records."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from pcbench.report.figures import Curve, Estimated, Point, Scale, against_length, forest
from pcbench.report.figures.svg import glyph
from pcbench.report.page.tables import Table
from pcbench.report.reading.results import Entry, Series

__all__ = [
    "MAX_PANELS",
    "MAX_SERIES",
    "SUMMARISED",
    "Block",
    "Legend",
    "Picture",
    "Section",
    "by_panel",
    "legend_of",
    "length_block",
    "not_drawn",
    "series_limit",
]

# more cannot be told apart; tables hold everything
MAX_SERIES = 12
# of a block about more entries than that, fewer: a page of 500 cells stays small
MANY_ENTRIES, FEWER_SERIES = 200, 6
MAX_PANELS = 4
SUMMARISED = 6


@dataclass(frozen=True)
class Picture:
    """A figure with its title and what it shows in words."""

    title: str
    svg: Markup
    summary: str


@dataclass(frozen=True)
class Legend:
    """A mark of a figure and what it stands for."""

    glyph: Markup
    label: str


@dataclass(frozen=True)
class Block:
    """Figures with their legend, notes and table."""

    title: str = ""
    pictures: Sequence[Picture] = ()
    legend: Sequence[Legend] = ()
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Section:
    """One heading of the page.

    Args:
        id: anchor.
        title: heading, also in the contents.
        lead: how to read what follows.
        blocks: in order.
    """

    id: str
    title: str
    lead: str
    blocks: list[Block] = field(default_factory=list)


def by_panel(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Entries by panel, in order."""
    panels: dict[str, list[Entry]] = {}
    for entry in entries:
        panels.setdefault(entry.panel, []).append(entry)
    return panels


def length_block(
    name: str,
    entries: Sequence[Entry],
    point: Callable[[Entry], Point],
    say: Callable[[Entry], str],
    scale: Scale,
    ylabel: str,
    *,
    title: str = "",
    notes: Sequence[str] = (),
    expected: Callable[[Entry], Point | None] = lambda entry: None,
    curves: Callable[[str, Series], Curve | None] = lambda panel, series: None,
) -> Block:
    """Values against context length, a figure a panel; of a single length a row a series, of one value no figure.

    Args:
        name: unique in the page.
        entries: what belongs in the figures; those without a length stay out.
        point: an entry's place.
        say: an entry's value in words.
        scale: of the y axis.
        ylabel: with the unit.
        title: of the block.
        notes: said above the figures, before what is left out of them.
        expected: a predicted value, where there is one.
        curves: a fitted line of a series in a panel, where there is one.
    """
    placed = [e for e in entries if e.record.context_tokens is not None]
    found = by_panel(placed).items()
    panels = {panel: rows for panel, rows in found if sum(point(e).value is not None for e in rows) > 1}
    limit = series_limit(placed)
    pictures, drawn_series, most = [], set[Series](), 0
    for i, (panel, rows) in enumerate(list(panels.items())[:MAX_PANELS]):
        series = list(dict.fromkeys(e.series for e in rows))
        most = max(most, len(series))
        drawn_series.update(series[:limit])
        drawn = [e for e in rows if e.series in series[:limit]]
        lines = [p for p in (expected(e) for e in drawn) if p is not None]
        fitted = [curve for s in series[:limit] if (curve := curves(panel, s)) is not None]
        spoken = f"{ylabel} against context length, {panel}"
        points = [point(e) for e in drawn]
        if len({p.tokens for p in points}) == 1:
            heading = f"{panel}, {points[0].tokens:,} tokens"
            svg = _at_one_length(f"{name}-{i}", f"{ylabel}, {heading}", points, scale, ylabel)
        else:
            heading = panel
            svg = against_length(f"{name}-{i}", spoken, points, scale, ylabel, expected=lines, curves=fitted)
        pictures.append(Picture(heading, svg, _summary(rows, lambda e: point(e).value is not None, say)))
    return Block(title, pictures, legend_of(drawn_series), [*notes, *not_drawn(most, len(panels), limit)])


def _at_one_length(name: str, title: str, points: Sequence[Point], scale: Scale, label: str) -> Markup:
    """A row a series; those without a value stand in the summary."""
    rows = [Estimated(p.series.label, p.series, p.value, p.low, p.high) for p in points if p.value is not None]
    return forest(name, title, rows, label, neutral=1.0 if scale == "ratio" else None)


def legend_of(series: Iterable[Series]) -> list[Legend]:
    """Each series once, in the order of the report."""
    return [Legend(glyph(s), s.label) for s in sorted(set(series), key=lambda s: s.index)]


def series_limit(entries: Sequence[Entry]) -> int:
    """How many series a figure of a block holds."""
    return MAX_SERIES if len(entries) <= MANY_ENTRIES else FEWER_SERIES


def not_drawn(series: int, panels: int, limit: int = MAX_SERIES) -> list[str]:
    """What the limits of the figures leave out.

    Args:
        series: the most in a panel.
        panels: how many there are.
        limit: series that are drawn in one.
    """
    left_out = []
    if series > limit:
        left_out.append(f"The first {limit} of up to {series} series are drawn; the table holds all.")
    if panels > MAX_PANELS:
        left_out.append(f"{MAX_PANELS} of {panels} panels are drawn; the table holds all.")
    return left_out


def _summary(entries: Sequence[Entry], has_value: Callable[[Entry], bool], say: Callable[[Entry], str]) -> str:
    """What the longest length with values shows, and what became of longer ones."""
    longest = max(e.record.context_tokens or 0 for e in entries if has_value(e))
    lengths = sorted({e.record.context_tokens or 0 for e in entries})
    return " ".join(_sentence(tokens, entries, say) for tokens in lengths if tokens >= longest)


def _sentence(tokens: int, entries: Sequence[Entry], say: Callable[[Entry], str]) -> str:
    at = [e for e in entries if e.record.context_tokens == tokens]
    parts = [f"{e.series.label} {say(e)}" for e in at[:SUMMARISED]]
    more = f"; {len(at) - SUMMARISED} more in the table" if len(at) > SUMMARISED else ""
    return f"At {tokens:,} tokens: {'; '.join(parts)}{more}."
