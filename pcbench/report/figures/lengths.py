"""Values against context length, or against a parameter, on log axes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator, LogLocator, MaxNLocator, NullLocator

from pcbench.report.figures.labels import shortened
from pcbench.report.figures.svg import INK, PAPER, colour, drawing, marker, to_svg
from pcbench.report.reading.results import Series
from pcbench.report.wording import compact

__all__ = ["Curve", "Point", "Scale", "against_length", "divisions"]

Floats = np.ndarray[Any, np.dtype[np.float64]]
Scale = Literal["time", "ratio", "bytes", "share"]

WIDTH, HEIGHT = 440, 300
# above the frame for what has no value; height of one in pixels
MISSING_ROWS, ROW = 4, 17
# factor between the first and the last series at one length
DODGE = 1.12
RATIO_TICKS = (1 / 16, 1 / 8, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)


@dataclass(frozen=True)
class Point:
    """A series at a length.

    Args:
        series: gives colour and marker.
        tokens: where on the x axis.
        value: None draws the marker above the frame: the cell ended without a value.
        low: lower end of the error bar; None leaves the marker hollow.
        high: upper end.
        mark: a word beside a marker above the frame.
    """

    series: Series
    tokens: int
    value: float | None
    low: float | None = None
    high: float | None = None
    mark: str = ""


@dataclass(frozen=True)
class Curve:
    """A fitted line of a series over the lengths it was fitted to."""

    series: Series
    tokens: tuple[int, int]
    value: Callable[[float], float]


def against_length(
    name: str,
    title: str,
    points: Sequence[Point],
    scale: Scale,
    ylabel: str,
    *,
    xlabel: str = "context tokens",
    expected: Sequence[Point] = (),
    curves: Sequence[Curve] = (),
) -> Markup:
    """Lines over the context length, on log axes but for shares.

    Args:
        name: unique in the page.
        title: read aloud in place of the picture.
        points: all series of a panel.
        scale: how the y axis is divided; "ratio" draws a line at 1.
        ylabel: with the unit.
        xlabel: what `tokens` of the points is.
        expected: predicted values, drawn as a dotted line.
        curves: fitted lines, drawn dashed in place of the lines between points.
    """
    missing = [p for p in points if p.value is None]
    rows = min(len({p.series for p in missing}), MISSING_ROWS)
    height = HEIGHT + ROW * rows
    with drawing(name, WIDTH, height) as figure:
        axes = figure.add_axes((66 / WIDTH, 46 / height, (WIDTH - 74) / WIDTH, (HEIGHT - 56) / height))
        axes.set_xscale("log", base=2)
        if scale != "share":
            axes.set_yscale("log", base=10 if scale == "time" else 2)
        series = sorted({p.series for p in points}, key=lambda s: s.index)
        for rank, one in enumerate(series):
            # side by side, so that equal values and their bars can be told apart
            shift = DODGE ** ((rank + 0.5) / len(series) - 0.5)
            _dotted(axes, one, [p for p in expected if p.series == one], shift)
            fitted = [curve for curve in curves if curve.series == one]
            _line(axes, one, [p for p in points if p.series == one and p.value is not None], shift, joined=not fitted)
            for curve in fitted:
                _dashed(axes, curve, shift)
        _divide_x(axes, [p.tokens for p in points], xlabel)
        _divide_y(axes, scale, [p for p in points if p.value is not None])
        _missing(axes, missing)
        axes.set_ylabel(shortened(ylabel))
        axes.yaxis.set_label_coords(-52 / (WIDTH - 74), 0.5)
        axes.grid(True, linewidth=0.6, clip_on=False)
        axes.set_axisbelow(True)
        return to_svg(figure, name, title)


def _line(axes: Axes, series: Series, points: Sequence[Point], shift: float, *, joined: bool) -> None:
    """Points with an interval are filled and have a bar, those without are hollow."""
    style: Any = {"color": colour(series), "clip_on": False}
    if joined:
        axes.plot(*_places(points, shift), linewidth=1.5, **style)
    sure = [p for p in points if p.low is not None and p.high is not None]
    for some, face in ((sure, colour(series)), ([p for p in points if p not in sure], PAPER)):
        if some:
            axes.plot(*_places(some, shift), marker(series), markersize=7, markerfacecolor=face, zorder=4, **style)
    corners = [corner for p in sure if p.low != p.high for corner in _error_bar(p, p.tokens * shift)]
    if corners:
        axes.plot(*np.array(corners, float).T, linewidth=1.5, zorder=3, **style)


def _places(points: Sequence[Point], shift: float) -> tuple[Floats, Floats]:
    return np.array([p.tokens * shift for p in points], float), np.array([p.value for p in points], float)


def _error_bar(point: Point, x: float) -> list[tuple[float, float | None]]:
    """The corners of an I; one that is not a number lifts the pen."""
    left, right, lift = x / 1.03, x * 1.03, (np.nan, np.nan)
    upright = [(x, point.low), (x, point.high), lift]
    return [*upright, (left, point.low), (right, point.low), lift, (left, point.high), (right, point.high), lift]


def _dotted(axes: Axes, series: Series, points: Sequence[Point], shift: float) -> None:
    if points:
        style: Any = {"color": colour(series), "dashes": (0.8, 0.8), "alpha": 0.55, "clip_on": False}
        axes.plot(*_places(points, shift), linewidth=3.5, zorder=1, **style)


def _dashed(axes: Axes, curve: Curve, shift: float) -> None:
    tokens = np.geomspace(*curve.tokens, 24)
    style: Any = {"color": colour(curve.series), "dashes": (4, 1.6), "clip_on": False}
    axes.plot(tokens * shift, [curve.value(x) for x in tokens], linewidth=1.3, zorder=2, **style)


def _missing(axes: Axes, points: Sequence[Point]) -> None:
    """Hollow markers above the frame, one row a series."""
    rows = {s: i for i, s in enumerate(dict.fromkeys(p.series for p in points))}
    for series, row in rows.items():
        lengths = [p.tokens for p in points if p.series == series]
        height = 1 + (min(row, MISSING_ROWS - 1) + 0.7) * ROW / (HEIGHT - 56)
        style: Any = {"color": colour(series), "markerfacecolor": PAPER, "markersize": 7, "clip_on": False}
        place = axes.get_xaxis_transform()
        axes.plot(lengths, [height] * len(lengths), marker(series), transform=place, **style)
        for point in points:
            if point.series == series and point.mark:
                axes.annotate(
                    point.mark, (point.tokens, height), (7, 0), xycoords=place, textcoords="offset points",
                    va="center", fontsize=9.5, annotation_clip=False,
                )  # fmt: skip


def _divide_x(axes: Axes, tokens: Sequence[int], xlabel: str) -> None:
    lengths = sorted(set(tokens))
    step = -(-len(lengths) // 8)
    axes.xaxis.set_major_locator(FixedLocator(lengths[::-step][::-1]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: compact(x)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(lengths[0] / 1.35, lengths[-1] * 1.35)
    axes.set_xlabel(shortened(xlabel))


def _divide_y(axes: Axes, scale: Scale, points: Sequence[Point]) -> None:
    axes.yaxis.set_minor_locator(NullLocator())
    lows = [p.value if p.low is None else p.low for p in points if p.value is not None]
    highs = [p.value if p.high is None else p.high for p in points if p.value is not None]
    low, high = min(lows, default=1.0), max(highs, default=1.0)
    if scale == "share":
        axes.set_ylim(-4, 104)
        axes.yaxis.set_major_locator(FixedLocator(range(0, 101, 20)))
        return
    if scale == "ratio":
        axes.axhline(1, color=INK, linewidth=1.0, dashes=(2, 2), zorder=1, clip_on=False)
        low, high = min(low, 0.5), max(high, 2.0)
    low, high = low / 1.25, high * 1.25
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(divisions(scale, low, high))
    suffix = "×" if scale == "ratio" else ""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.10g}{suffix}"))


def divisions(scale: Scale, low: float, high: float) -> Locator:
    """Ticks of a log axis; few powers fall into a narrow range."""
    if scale == "ratio" and high / low < 64:
        return FixedLocator(RATIO_TICKS)
    if high / low < 8:
        return FixedLocator([tick for tick in MaxNLocator(5).tick_values(low, high) if tick > 0])
    return LogLocator(10, (1, 2, 5)) if scale == "time" else LogLocator(2)
