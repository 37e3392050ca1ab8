"""Horizontal bars: stages stacked to a whole, or parts beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pcbench.report.figures.labels import height_of, two_lines, width_of
from pcbench.report.figures.svg import INK, PAPER, drawing, part, to_svg

__all__ = ["Bar", "grouped", "stacked"]

WIDTH = 440


@dataclass(frozen=True)
class Bar:
    """One bar: part → size, and the size of the whole where parts make one."""

    label: str
    parts: dict[str, float]
    total: float = 0.0


def stacked(name: str, title: str, bars: Sequence[Bar], parts: Sequence[str]) -> Markup:
    """Times in milliseconds, first bar on top; a tick marks the time of the whole."""
    labels = [two_lines(bar.label) for bar in bars]
    left, height = width_of(labels), 54 + height_of(labels, 25) * len(bars)
    unit, divisor = ("seconds", 1e3) if max(bar.total for bar in bars) >= 1e3 else ("milliseconds", 1.0)
    with drawing(name, WIDTH, height) as figure:
        axes = figure.add_axes((left / WIDTH, 44 / height, (WIDTH - left - 14) / WIDTH, (height - 48) / height))
        for row, bar in enumerate(bars):
            start = 0.0
            for i, name_ in enumerate(parts):
                width = bar.parts.get(name_, 0.0) / divisor
                if width:
                    axes.barh(row, width, 0.62, start, **_fill(i))
                start += width
            axes.plot([bar.total / divisor] * 2, [row - 0.42, row + 0.42], color=INK, linewidth=1.6, clip_on=False)
        _divide(axes, labels, unit)
        return to_svg(figure, name, title)


def grouped(name: str, title: str, bars: Sequence[Bar], parts: Sequence[str], xlabel: str) -> Markup:
    """Parts of each bar beside each other, all from zero; for what does not add up."""
    labels = [two_lines(bar.label) for bar in bars]
    most = max(len(bar.parts) for bar in bars)
    thick = max(9, 22 // most)
    slot = height_of(labels, thick * most + 8)
    left, height = width_of(labels), 54 + len(bars) * slot
    with drawing(name, WIDTH, height) as figure:
        axes = figure.add_axes((left / WIDTH, 44 / height, (WIDTH - left - 14) / WIDTH, (height - 48) / height))
        for row, bar in enumerate(bars):
            for i, name_ in enumerate(one for one in parts if one in bar.parts):
                place = row + (i - (len(bar.parts) - 1) / 2) * thick / slot
                axes.barh(place, bar.parts[name_], thick / slot * 0.9, **_fill(parts.index(name_)))
        _divide(axes, labels, xlabel)
        return to_svg(figure, name, title)


def _fill(index: int) -> dict[str, Any]:
    return part(index) | {"edgecolor": PAPER, "linewidth": 0.7, "clip_on": False}


def _divide(axes: Axes, labels: list[str], xlabel: str) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))
    axes.set_xlabel(xlabel)
    axes.grid(True, axis="x", linewidth=0.6, clip_on=False)
    axes.set_axisbelow(True)
