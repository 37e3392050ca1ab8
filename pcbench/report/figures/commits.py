"""Ratios over runs in the order of their days, a place a run, so that a commit that moved one is seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pcbench.report.figures.labels import shortened
from pcbench.report.figures.svg import INK, PAPER, colour, drawing, marker, to_svg
from pcbench.report.reading.results import Series
from pcbench.report.wording import Estimate

__all__ = ["Seen", "over_commits"]

WIDTH, HEIGHT, BOTTOM = 440, 320, 84
# names below the axis, how far apart lines stand inside a place
NAMES, APART = 12, 0.5


@dataclass(frozen=True)
class Seen:
    """A line's ratio in one run.

    Args:
        series: the line.
        place: number of the run, 0 the first.
        ratio: with its interval; without one the marker is hollow.
    """

    series: Series
    place: int
    ratio: Estimate


def over_commits(name: str, title: str, seen: Sequence[Seen], commits: Sequence[str], ylabel: str) -> Markup:
    """Lines over the runs, with bars where there are intervals and a line at 1.

    Args:
        name: unique in the page.
        title: read aloud in place of the picture.
        seen: at least two of a line.
        commits: names of the places.
        ylabel: what the ratio is.
    """
    lines: dict[Series, list[Seen]] = {}
    for one in sorted(seen, key=lambda s: (s.series.index, s.place)):
        lines.setdefault(one.series, []).append(one)
    with drawing(name, WIDTH, HEIGHT) as figure:
        inside = (60 / WIDTH, BOTTOM / HEIGHT, (WIDTH - 74) / WIDTH, (HEIGHT - BOTTOM - 10) / HEIGHT)
        axes = figure.add_axes(inside)
        axes.axhline(1, color=INK, linewidth=1.0, dashes=(2, 2), zorder=1)
        for rank, (series, found) in enumerate(lines.items()):
            shift = ((rank + 0.5) / len(lines) - 0.5) * APART
            style: Any = {"color": colour(series), "clip_on": False}
            axes.plot([s.place + shift for s in found], [s.ratio.value for s in found], linewidth=1.2, **style)
            for one in found:
                sure = one.ratio.low is not None and one.ratio.high is not None
                if sure:
                    ends = [one.ratio.low, one.ratio.high]
                    axes.plot([one.place + shift] * 2, ends, linewidth=1.5, **style)  # type: ignore[arg-type]
                face = colour(series) if sure else PAPER
                mark: Any = {"markersize": 6, "markerfacecolor": face, "zorder": 4}
                axes.plot([one.place + shift], [one.ratio.value], marker(series), **mark, **style)
        shown = range(0, len(commits), -(-len(commits) // NAMES))
        axes.set_xticks(list(shown), [shortened(commits[i]) for i in shown], rotation=40, ha="right")
        axes.set_xlim(-0.6, len(commits) - 0.4)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.4g}×"))
        axes.set_ylabel(shortened(ylabel))
        axes.yaxis.set_label_coords(-50 / (WIDTH - 74), 0.5)
        axes.grid(True, linewidth=0.6, clip_on=False)
        axes.set_axisbelow(True)
        return to_svg(figure, name, title)
