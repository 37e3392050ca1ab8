"""Labels of axes."""

from collections.abc import Sequence
from textwrap import wrap

__all__ = ["height_of", "shortened", "two_lines", "width_of"]

LABEL_CHARACTERS = 34
# of a row's label, and pixels that two lines take
LINE_CHARACTERS, TWO_LINES = 28, 33


def shortened(label: str) -> str:
    """Its end, where lengths and parameters stand."""
    return label if len(label) <= LABEL_CHARACTERS else "…" + label[1 - LABEL_CHARACTERS :]


def two_lines(label: str) -> str:
    """A row's label in two lines at most."""
    return "\n".join(wrap(label, LINE_CHARACTERS, max_lines=2, placeholder=" …"))


def width_of(labels: Sequence[str]) -> int:
    """Pixels that the longest line of some labels takes left of an axis."""
    return 16 + 7 * max(len(line) for label in labels for line in label.split("\n"))


def height_of(labels: Sequence[str], least: int) -> int:
    """Pixels of a row: `least`, or what two lines take."""
    return max(least, TWO_LINES) if any("\n" in label for label in labels) else least
