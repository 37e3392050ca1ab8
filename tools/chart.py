"""The chart of the README: a committed run, drawn by the report's own figures, for light and for dark pages."""

import re
from pathlib import Path
from typing import Literal

from pcbench.records import read_records
from pcbench.report.figures import Point, against_length
from pcbench.report.figures.svg import glyph
from pcbench.report.reading.results import FULL_HUE, Series
from pcbench.types import Record

__all__ = ["FILES", "RUN", "chart"]

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "reports" / "examples" / "prefill_epyc2c_202611"
FILES: dict[Literal["light", "dark"], Path] = {
    "light": ROOT / "docs" / "images" / "prefill_light.svg",
    "dark": ROOT / "docs" / "images" / "prefill_dark.svg",
}

TITLE = "Seconds to the first token of an answer against the length of the prompt, full attention and ParallelComp"
YLABEL = "time to the first token, seconds"
# method and backend of the record → the line's name, in the order of the report's colours
LINES = {
    ("full", "torch"): Series(0, "full attention, PyTorch's SDPA", FULL_HUE),
    ("parallel_comp", "cpu"): Series(1, "ParallelComp, one chunk of 2,048 tokens kept", 0),
}
# height of a line of the legend, and where its text begins
ROW, TEXT = 22, 52


def chart(theme: Literal["light", "dark"]) -> str:
    """The SVG file: median times with a bar from the 10th to the 90th percentile.

    Args:
        theme: whose colours it has.
    """
    timed = [r for r in read_records(RUN) if r.ms_p50 is not None and (r.method, r.backend) in LINES]
    figure = str(against_length("prefill", TITLE, [_point(r) for r in timed], "time", YLABEL))
    box = re.match(r'<svg viewBox="0 0 ([\d.]+) ([\d.]+)"', figure)
    assert box is not None, "figures begin with their size"
    width, height = (round(float(size)) for size in box.groups())
    placed = figure.replace("<svg ", f'<svg width="{width}" height="{height}" ', 1)
    rows = [_row(line, height + ROW * (i + 0.5)) for i, line in enumerate(LINES.values())]
    whole = height + ROW * len(rows) + 8
    drawn = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {whole}" width="{width}" height="{whole}">\n'
        "<style>text { fill: var(--ink); font: 12.5px sans-serif }</style>\n"
        f'<rect width="{width}" height="{whole}" fill="var(--paper)"/>\n'
        f"{placed}\n{''.join(rows)}</svg>\n"
    )
    colours = _colours(theme)
    return re.sub(r"var\((--\w+)\)", lambda found: colours[found[1]], drawn)


def _point(record: Record) -> Point:
    p10, p50, p90 = (ms / 1000 for ms in (record.ms_p10, record.ms_p50, record.ms_p90) if ms is not None)
    return Point(LINES[record.method, record.backend], record.context_tokens or 0, p50, p10, p90)


def _row(line: Series, middle: float) -> str:
    """A line of the legend, around a height."""
    mark = str(glyph(line)).replace("<svg ", f'<svg x="{TEXT - 32}" y="{middle - 7:g}" width="24" height="14" ', 1)
    return f'{mark}\n<text x="{TEXT}" y="{middle + 4.5:g}">{line.label}</text>\n'


def _colours(theme: Literal["light", "dark"]) -> dict[str, str]:
    """Custom property → colour, as the report's style sheet has them."""
    sheet = (ROOT / "reports" / "templates" / "report.css").read_text(encoding="utf-8")
    light, _, dark = sheet.partition("prefers-color-scheme: dark")
    return dict(re.findall(r"(--\w+): (#\w+)", light if theme == "light" else dark))
