"""A heat map of shares: each field is tinted and holds its number."""

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.patches import Rectangle

from pcbench.report.figures.svg import INK, drawing, to_svg

__all__ = ["heat"]

WIDTH = 440
LEFT, ROW, FIELD = 84, 30, 76
# tint of a full share: text on it stays readable in light and dark
DARKEST = 0.3


def heat(
    name: str,
    title: str,
    shares: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    xlabel: str,
    ylabel: str,
) -> Markup:
    """Shares 0…1 shown ×100; an empty field where nothing was seen.

    Args:
        name: unique in the page.
        title: read aloud in place of the picture.
        shares: rows of columns, the first row on top.
        rows: their labels; columns: theirs.
        xlabel: what the columns are; ylabel: what the rows are.
    """
    height = 50 + ROW * len(rows)
    # few columns stay as wide as those of many
    wide = min(WIDTH - LEFT - 14, FIELD * len(columns))
    with drawing(name, WIDTH, height) as figure:
        axes = figure.add_axes((LEFT / WIDTH, 46 / height, wide / WIDTH, ROW * len(rows) / height))
        for y, row in enumerate(shares):
            for x, share in enumerate(row):
                if share is None:
                    continue
                field = Rectangle((x + 0.02, y + 0.04), 0.96, 0.92, color=INK, alpha=0.06 + share * (DARKEST - 0.06))
                axes.add_patch(field)
                axes.text(x + 0.5, y + 0.5, f"{share * 100:.0f}", ha="center", va="center", color=INK)
        axes.set_xlim(0, len(columns))
        axes.set_ylim(len(rows), 0)
        axes.set_xticks([i + 0.5 for i in range(len(columns))], columns)
        axes.set_yticks([i + 0.5 for i in range(len(rows))], rows)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.yaxis.set_label_coords(-66 / wide, 0.5)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        return to_svg(figure, name, title)
