"""Estimates with their intervals, one row a subject: scores by data set, differences around zero."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from pcbench.report.figures.labels import height_of, shortened, two_lines, width_of
from pcbench.report.figures.svg import INK, PAPER, colour, drawing, marker, to_svg
from pcbench.report.reading.results import Series

__all__ = ["Estimated", "forest"]

WIDTH = 440
# of a row without a second series, and of each further series in it
ROW, NEXT = 22, 9


@dataclass(frozen=True)
class Estimated:
    """A series' value in a row; without an interval the marker is hollow."""

    row: str
    series: Series
    value: float
    low: float | None
    high: float | None


def forest(name: str, title: str, found: Sequence[Estimated], xlabel: str, *, neutral: float | None = None) -> Markup:
    """Rows in the order given, the first on top.

    Args:
        name: unique in the page.
        title: read aloud in place of the picture.
        found: at least one.
        xlabel: with the unit.
        neutral: where a line says "the same".
    """
    rows = list(dict.fromkeys(one.row for one in found))
    inside = {row: sorted({one.series for one in found if one.row == row}, key=lambda s: s.index) for row in rows}
    labels = [two_lines(row) for row in rows]
    each = height_of(labels, ROW) + NEXT * (max(map(len, inside.values())) - 1)
    left, height = width_of(labels), 54 + each * len(rows)
    with drawing(name, WIDTH, height) as figure:
        axes = figure.add_axes((left / WIDTH, 44 / height, (WIDTH - left - 14) / WIDTH, (height - 48) / height))
        if neutral is not None:
            axes.axvline(neutral, color=INK, linewidth=1.0, dashes=(2, 2), zorder=1)
        for one in found:
            beside = inside[one.row]
            y = rows.index(one.row) + (beside.index(one.series) - (len(beside) - 1) / 2) * NEXT / each
            style: Any = {"color": colour(one.series), "clip_on": False}
            sure = one.low is not None and one.high is not None
            if sure:
                axes.plot([one.low, one.high], [y, y], linewidth=1.5, **style)  # type: ignore[list-item]
            face = colour(one.series) if sure else PAPER
            axes.plot([one.value], [y], marker(one.series), markersize=6, markerfacecolor=face, zorder=4, **style)
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(shortened(xlabel))
        axes.grid(True, linewidth=0.6, clip_on=False)
        axes.set_axisbelow(True)
        return to_svg(figure, name, title)
