"""Raw values in the order in which they were taken, so that drift and outliers are seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from pcbench.report.figures.svg import INK, colour, drawing, marker, to_svg
from pcbench.report.reading.results import Series

__all__ = ["Run", "in_order"]

WIDTH, HEIGHT = 440, 250


@dataclass(frozen=True)
class Run:
    """The values of a series, first taken first.

    Args:
        series: gives colour and marker.
        values: at least one; 0 is none.
        step: how many were taken for each that is here.
    """

    series: Series
    values: Sequence[float]
    step: int = 1


def in_order(name: str, title: str, runs: Sequence[Run]) -> Markup:
    """Each value over its own median, one strip of dots a series.

    Args:
        name: unique in the page.
        title: read aloud in place of the picture.
        runs: at least one; values taken at the same turn stand above each other.
    """
    with drawing(name, WIDTH, HEIGHT) as figure:
        axes = figure.add_axes((66 / WIDTH, 46 / HEIGHT, (WIDTH - 74) / WIDTH, (HEIGHT - 56) / HEIGHT))
        axes.axhline(1, color=INK, linewidth=1.0, dashes=(2, 2), zorder=1)
        longest = max(len(run.values) for run in runs)
        size = 6 if longest <= 20 else 3.5
        for i, run in enumerate(runs):
            middle = median(run.values)
            # side by side inside a turn
            shift = (i + 0.5) / len(runs) - 0.5
            turns = [(k + 1 + 0.6 * shift) * run.step for k in range(len(run.values))]
            style: Any = {"color": colour(run.series), "clip_on": False}
            axes.plot(turns, [v / middle for v in run.values], marker(run.series), markersize=size, **style)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("repeat, in order of execution")
        axes.set_ylabel("time over the cell's median")
        axes.yaxis.set_label_coords(-52 / (WIDTH - 74), 0.5)
        axes.grid(True, linewidth=0.6, clip_on=False)
        axes.set_axisbelow(True)
        return to_svg(figure, name, title)
