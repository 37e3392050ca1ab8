"""Accuracy against a gain: a dot a choice with its intervals both ways, and the front."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from pcbench.report.figures.labels import shortened
from pcbench.report.figures.lengths import divisions
from pcbench.report.figures.svg import INK, PAPER, colour, drawing, marker, to_svg
from pcbench.report.reading.results import Series
from pcbench.report.wording import Estimate

__all__ = ["Dot", "scatter"]

WIDTH, HEIGHT = 440, 320


@dataclass(frozen=True)
class Dot:
    """A choice.

    Args:
        series: gives colour and marker.
        x: change of the score in points; y: the gain, a ratio.
        front: whether no other choice beats it in both.
    """

    series: Series
    x: Estimate
    y: Estimate
    front: bool


def scatter(name: str, title: str, dots: Sequence[Dot], xlabel: str, ylabel: str) -> Markup:
    """Up and right is better; a ring at (0, 1) is full attention, a stepped line the front.

    Args:
        name: unique in the page.
        title: read aloud in place of the picture.
        dots: at least one.
        xlabel: with the unit; ylabel: with the unit.
    """
    with drawing(name, WIDTH, HEIGHT) as figure:
        axes = figure.add_axes((66 / WIDTH, 46 / HEIGHT, (WIDTH - 84) / WIDTH, (HEIGHT - 56) / HEIGHT))
        axes.set_yscale("log", base=2)
        axes.axhline(1, color=INK, linewidth=1.0, dashes=(2, 2), zorder=1)
        axes.axvline(0, color=INK, linewidth=1.0, dashes=(2, 2), zorder=1)
        axes.plot([0], [1], "o", color=INK, markerfacecolor=PAPER, markersize=9, zorder=3, clip_on=False)
        _front(axes, dots)
        for dot in dots:
            _dot(axes, dot)
        _divide(axes, dots)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(shortened(ylabel))
        axes.yaxis.set_label_coords(-52 / (WIDTH - 84), 0.5)
        axes.grid(True, linewidth=0.6, clip_on=False)
        axes.set_axisbelow(True)
        return to_svg(figure, name, title)


def _front(axes: Axes, dots: Sequence[Dot]) -> None:
    """Whatever lies below and left of the line is beaten."""
    corners = sorted({(d.x.value, d.y.value) for d in dots if d.front} | {(0.0, 1.0)})
    beaten = [c for c in corners if any(o[0] >= c[0] and o[1] >= c[1] and o != c for o in corners)]
    x, y = zip(*(c for c in corners if c not in beaten), strict=True)
    style: Any = {"color": INK, "linewidth": 1.1, "alpha": 0.6, "zorder": 2, "clip_on": False}
    axes.step(x, y, where="pre", **style)


def _dot(axes: Axes, dot: Dot) -> None:
    """Filled on the front, else hollow; bars where there are intervals."""
    style: Any = {"color": colour(dot.series), "clip_on": False}
    for estimate, place in ((dot.x, 0), (dot.y, 1)):
        if estimate.low is not None and estimate.high is not None:
            ends = [(estimate.low, estimate.high), (dot.y.value, dot.y.value)]
            x, y = ends if place == 0 else ((dot.x.value, dot.x.value), ends[0])
            axes.plot(x, y, linewidth=1.4, zorder=3, **style)
    face = colour(dot.series) if dot.front else PAPER
    axes.plot([dot.x.value], [dot.y.value], marker(dot.series), markersize=8, markerfacecolor=face, zorder=4, **style)


def _divide(axes: Axes, dots: Sequence[Dot]) -> None:
    xs = [0.0, *(v for d in dots for v in d.x if v is not None)]
    room = max(max(xs) - min(xs), 2.0) * 0.08
    axes.set_xlim(min(xs) - room, max(xs) + room)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:+.4g}".replace("-", "−") if x else "0"))
    ys = [1.0, *(v for d in dots for v in d.y if v is not None)]
    low, high = min(*ys, 0.8) / 1.15, max(*ys, 1.25) * 1.15
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(divisions("ratio", low, high))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.10g}×"))
