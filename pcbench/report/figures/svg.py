"""Matplotlib figures as inline SVG: ids of their own, colours of the page's theme, nothing from elsewhere."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as Outline

from pcbench.report.reading.results import FULL_HUE, Series

__all__ = ["INK", "PAPER", "colour", "drawing", "glyph", "marker", "part", "swatch", "to_svg"]

# 9 colours and 8 markers have no common divisor: 72 series before a pair repeats
SERIES = ("#c84a00", "#00539c", "#007a57", "#b0438f", "#8c6b00", "#2f8fcf", "#6a4fc4", "#7a4a2b", "#5a8a00")
# shades for parts of a whole, which are no series; every other part is hatched
PARTS = ("#4b4f54", "#85898e", "#b3b6ba")
MARKERS = "os^DvPX*"
INK, GRID, PAPER = "#1b1c1d", "#d9dadb", "#fefefd"

# a figure's colour → the page's custom property, so that dark and print change it
THEME = {INK: "var(--ink)", GRID: "var(--grid)", PAPER: "var(--paper)"} | {
    code: f"var(--{letter}{i})" for letter, codes in (("s", SERIES), ("p", PARTS)) for i, code in enumerate(codes)
}

STYLE = {
    "svg.fonttype": "none",
    "font.size": 12.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "text.color": INK,
    # names may hold dollar signs
    "text.parse_math": False,
    "xtick.color": INK,
    "xtick.major.size": 0,
    "ytick.color": INK,
    "ytick.major.size": 0,
    "grid.color": GRID,
    "hatch.linewidth": 0.7,
}


def colour(series: Series) -> str:
    """The series' colour: a CSS variable that light and dark set. Full attention has that of the text."""
    hue = series.index if series.hue is None else series.hue
    return INK if hue == FULL_HUE else SERIES[hue % len(SERIES)]


def part(index: int) -> dict[str, Any]:
    """Shade and hatching of a part of a whole."""
    return {"color": PARTS[index % len(PARTS)], "hatch": "////" if index % 2 else None}


def marker(series: Series) -> str:
    """The series' marker, so that colour is never the only difference."""
    return MARKERS[series.index % len(MARKERS)]


@contextmanager
def drawing(name: str, width: float, height: float) -> Iterator[Figure]:
    """A figure of width × height CSS pixels in the report's style; matplotlib's own settings are put back."""
    style: Any = STYLE | {"svg.hashsalt": name}
    with mpl.rc_context(style):
        yield Figure(figsize=(width / 72, height / 72))


def to_svg(figure: Figure, name: str, title: str) -> Markup:
    """The figure as an `svg` element; equal figures give equal text.

    Args:
        figure: drawn inside `drawing(name, ...)`.
        name: unique in the page; every id begins with it.
        title: read aloud in place of the picture.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().decode()
    body = text[text.index("<defs>") :]
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None, "matplotlib writes a viewBox"
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<[^>]+>", lambda tag: _themed(tag[0], name), body)
    body = re.sub(r"\s*\n\s*", "", body)
    label = Markup('role="img" aria-label="{}"').format(title)
    return Markup(f'<svg viewBox="{box[1]}" {label}>') + Markup(body)


def _themed(tag: str, name: str) -> str:
    """One tag of matplotlib's with our ids and colours and without what the page's style says anyway."""
    # of groups nobody speaks by name
    tag = re.sub(r' id="[^"]*"', "", tag) if tag.startswith("<g") else tag.replace(' id="', f' id="{name}-')
    tag = tag.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'href="#{name}-')
    tag = re.sub(r"font-family: [^;\"]*sans-serif;?", "", tag)
    tag = re.sub(r' transform="rotate\(-?0 [^"]*\)"', "", tag)
    # a tenth of a pixel is enough, but not inside a marker
    tag = re.sub(r"(\d\.\d\d)\d+" if " id=" in tag else r"(?<!opacity: )(\d\.\d)\d+", r"\1", tag)
    tag = re.sub(r"; stroke-line(join|cap): \w+", "", tag)
    if tag.startswith("<path") and " C " not in tag:
        # numbers after M go on as lines
        tag = re.sub(r"\s*\bL ", " ", tag)
    for code, variable in THEME.items():
        tag = tag.replace(code, variable)
    if tag.startswith("<text"):
        # the page's style says the same
        tag = tag.replace(f"font-size: {STYLE['font.size']}px; ", "").replace("; fill: var(--ink)", "")
    return re.sub(r"\s+", " ", tag)


def glyph(series: Series) -> Markup:
    """The series' marker on its line, for a legend; drawn from the same outline as in the figures."""
    style = MarkerStyle(marker(series))
    outline = style.get_path().transformed(style.get_transform())
    data = _path_data(outline.transformed(mpl.transforms.Affine2D().scale(8, -8)))
    tint = THEME[colour(series)]
    return Markup(
        '<svg class="glyph" viewBox="-12 -7 24 14" aria-hidden="true">'
        f'<path d="M-12 0H12" style="stroke:{tint};stroke-width:1.6"/><path d="{data}" style="fill:{tint}"/></svg>'
    )


def swatch(index: int) -> Markup:
    """The square of a stage in a legend."""
    hatched = '<path d="M-7 7L7 -7M-7 0L0 -7M0 7L7 0" style="stroke:var(--paper);stroke-width:1.4"/>'
    return Markup(
        '<svg class="glyph" viewBox="-7 -7 14 14" aria-hidden="true"><path d="M-7 -7H7V7H-7Z" '
        f'style="fill:{THEME[PARTS[index % len(PARTS)]]}"/>{hatched if index % 2 else ""}</svg>'
    )


def _path_data(outline: Outline) -> str:
    letters = {
        Outline.MOVETO: "M",
        Outline.LINETO: "L",
        Outline.CURVE3: "Q",
        Outline.CURVE4: "C",
        Outline.CLOSEPOLY: "Z",
    }
    parts = []
    for points, code in outline.iter_segments():
        numbers = "" if code == Outline.CLOSEPOLY else " ".join(f"{x:.2f}" for x in points)
        parts.append(letters[code] + numbers)
    return "".join(parts)
