"""A block of figures with one row a workload: what has no length to stand against."""

from collections.abc import Callable, Sequence

from pcbench.report.figures import Estimated, forest
from pcbench.report.page.parts import SUMMARISED, Block, Picture, legend_of, series_limit
from pcbench.report.reading.results import Entry
from pcbench.report.wording import Estimate

__all__ = ["rows_block"]

# rows of a figure, and figures
MAX_ROWS, MAX_FIGURES = 24, 2


def rows_block(
    name: str,
    entries: Sequence[Entry],
    estimate: Callable[[Entry], Estimate],
    say: Callable[[Entry], str],
    xlabel: str,
    *,
    title: str = "",
    neutral: float | None = None,
) -> Block:
    """Estimates of entries, a row a workload and length, so many rows a figure.

    Args:
        name: unique in the page.
        entries: at least one.
        estimate: an entry's value.
        say: an entry's value in words.
        xlabel: with the unit.
        title: of the block.
        neutral: where a line says "the same".
    """
    series = sorted({e.series for e in entries}, key=lambda s: s.index)
    limit = series_limit(entries)
    drawn = [e for e in entries if e.series in series[:limit]]
    rows = list(dict.fromkeys(_row(e) for e in drawn))
    pictures: list[Picture] = []
    for i in range(0, min(len(rows), MAX_ROWS * MAX_FIGURES) if len(drawn) > 1 else 0, MAX_ROWS):
        part = rows[i : i + MAX_ROWS]
        here = [e for e in drawn if _row(e) in part]
        heading = f"{part[0]} to {part[-1]}" if len(part) > 1 else part[0]
        svg = forest(
            f"{name}-{i}",
            f"{xlabel}: {heading}",
            [Estimated(_row(e), e.series, *estimate(e)) for e in here],
            xlabel,
            neutral=neutral,
        )
        said = "; ".join(f"{e.name}: {say(e)}" for e in here[:SUMMARISED])
        more = f"; {len(here) - SUMMARISED:,} more in the table" if len(here) > SUMMARISED else ""
        pictures.append(Picture(heading, svg, f"{said}{more}."))
    notes = []
    if len(series) > limit or len(rows) > MAX_ROWS * MAX_FIGURES:
        notes.append(f"At most {limit} series and {MAX_ROWS * MAX_FIGURES} rows are drawn; the table holds all.")
    return Block(title, pictures, legend_of(series[:limit]), notes)


def _row(entry: Entry) -> str:
    tokens = entry.record.context_tokens
    return entry.panel if tokens is None else f"{entry.panel} {tokens:,}"
