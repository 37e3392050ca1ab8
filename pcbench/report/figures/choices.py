"""Choices by what they take and what they give: a marker a choice, a line a method, its name at the side."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from pcbench.report.figures.labels import shortened
from pcbench.report.figures.lengths import divisions
from pcbench.report.figures.svg import INK, PAPER, colour, drawing, marker, to_svg
from pcbench.report.reading.results import Series
from pcbench.report.wording import Estimate

__all__ = ["Spot", "choices"]

WIDTH, HEIGHT, LEFT, BOTTOM = 440, 340, 56, 46
# of a name at the side
SIDE, LINE, FONT = 122, 14, 10.5
# factor between the first and the last method at one x
DODGE = 1.3
NAME_CHARACTERS = 19


@dataclass(frozen=True)
class Spot:
    """A choice.

    Args:
        series: of its method, None for full attention.
        x: what it takes, above 0; y: what it gives.
        front: whether no other choice beats it in both.
    """

    series: Series | None
    x: Estimate
    y: Estimate
    front: bool


def choices(
    name: str,
    title: str,
    spots: Sequence[Spot],
    scale: Literal["share", "time"],
    xlabel: str,
    ylabel: str,
    *,
    alike: bool = False,
) -> Markup:
    """Left is better; a ring is full attention, a filled marker is on the front.

    Args:
        name: unique in the page.
        title: read aloud in place of the picture.
        spots: at least one; those of a method are joined by a line.
        scale: of y: a score from 0 to 100, where up is better, or a time, where down is.
        xlabel: with the unit; ylabel: with the unit.
        alike: methods are meant to take the same; they are drawn side by side.
    """
    with drawing(name, WIDTH, HEIGHT) as figure:
        inside = (LEFT / WIDTH, BOTTOM / HEIGHT, (WIDTH - LEFT - SIDE) / WIDTH, (HEIGHT - BOTTOM - 12) / HEIGHT)
        axes = figure.add_axes(inside)
        _divide(axes, spots, scale)
        lines = _lines(spots, DODGE if alike else 1.0)
        for series, some in lines.items():
            _line(axes, series, some)
        _full(axes, [spot for spot in spots if spot.series is None])
        _names(axes, lines)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(shortened(ylabel))
        axes.yaxis.set_label_coords(-44 / (WIDTH - LEFT - SIDE), 0.5)
        axes.grid(True, linewidth=0.6, clip_on=False)
        axes.set_axisbelow(True)
        return to_svg(figure, name, title)


def _lines(spots: Sequence[Spot], dodge: float) -> dict[Series, list[Spot]]:
    """Spots by method, in the order of the report, least x first, methods moved apart by `dodge` from first to last."""
    series = sorted({spot.series for spot in spots if spot.series is not None}, key=lambda s: s.index)
    lines = {}
    for rank, one in enumerate(series):
        shift = dodge ** ((rank + 0.5) / len(series) - 0.5)
        own = sorted((s for s in spots if s.series == one), key=lambda s: s.x.value)
        lines[one] = [replace(s, x=Estimate(*(v and v * shift for v in s.x))) for s in own]
    return lines


def _line(axes: Axes, series: Series, spots: Sequence[Spot]) -> None:
    style: Any = {"color": colour(series), "clip_on": False}
    axes.plot([s.x.value for s in spots], [s.y.value for s in spots], linewidth=1.2, zorder=2, **style)
    for spot in spots:
        _bars(axes, spot, style)
        face = colour(series) if spot.front else PAPER
        mark: Any = {"markersize": 7, "markerfacecolor": face, "zorder": 4}
        axes.plot([spot.x.value], [spot.y.value], marker(series), **mark, **style)


def _full(axes: Axes, spots: Sequence[Spot]) -> None:
    style: Any = {"color": INK, "clip_on": False}
    for spot in spots:
        _bars(axes, spot, style)
        axes.plot([spot.x.value], [spot.y.value], "o", markersize=9, markerfacecolor=PAPER, zorder=4, **style)


def _bars(axes: Axes, spot: Spot, style: dict[str, Any]) -> None:
    """Intervals, where there are any."""
    x, y = spot.x, spot.y
    if y.low is not None and y.high is not None:
        axes.plot([x.value] * 2, [y.low, y.high], linewidth=1.2, alpha=0.6, zorder=3, **style)
    if x.low is not None and x.high is not None:
        axes.plot([x.low, x.high], [y.value] * 2, linewidth=1.2, alpha=0.6, zorder=3, **style)


def _names(axes: Axes, lines: dict[Series, list[Spot]]) -> None:
    """Beside the frame in the order of the methods' last points, each with a thin line to its own."""
    last = {series: (some[-1].x.value, some[-1].y.value) for series, some in lines.items()}
    inside = axes.transData + axes.transAxes.inverted()
    heights = {series: float(inside.transform(place)[1]) for series, place in last.items()}
    ordered = sorted(heights, key=lambda s: (heights[s], -s.index))
    gap = LINE / (HEIGHT - BOTTOM - 12)
    for series, height in zip(ordered, _spread([heights[s] for s in ordered], gap), strict=True):
        text = series.label if len(series.label) <= NAME_CHARACTERS else series.label[: NAME_CHARACTERS - 1] + "…"
        arrow: Any = {
            "arrowstyle": "-",
            "linewidth": 0.6,
            "color": colour(series),
            "alpha": 0.7,
            "shrinkA": 0,
            "shrinkB": 4,
        }
        axes.annotate(
            text, last[series], (1.05, height), xycoords="data", textcoords="axes fraction", va="center",
            fontsize=FONT, color=INK, arrowprops=arrow, annotation_clip=False,
        )  # fmt: skip


def _spread(places: Sequence[float], gap: float) -> list[float]:
    """Ascending places at least `gap` apart, inside 0…1 as far as they fit."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else max(place, 0.0))
    limit = 1.0
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], limit)
        limit = moved[i] - gap
    return moved


def _divide(axes: Axes, spots: Sequence[Spot], scale: Literal["share", "time"]) -> None:
    axes.set_xscale("log", base=2)
    xs = [v for s in spots for v in s.x if v is not None and v > 0]
    left, right = min(xs) / 1.35, max(xs) * 1.35
    axes.set_xlim(left, right)
    axes.xaxis.set_major_locator(divisions("bytes", left, right))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.4g}"))
    if scale == "share":
        axes.set_ylim(-4, 104)
        axes.set_yticks(range(0, 101, 20))
        return
    axes.set_yscale("log", base=10)
    ys = [v for s in spots for v in s.y if v is not None and v > 0]
    low, high = min(ys) / 1.15, max(ys) * 1.15
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(divisions("time", low, high))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.4g}"))
