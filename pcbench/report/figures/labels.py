"""Labels of axes."""

__all__ = ["shortened", "width_of"]

LABEL_CHARACTERS = 34


def shortened(label: str) -> str:
    """Its end, where lengths and parameters stand."""
    return label if len(label) <= LABEL_CHARACTERS else "…" + label[1 - LABEL_CHARACTERS :]


def width_of(labels: list[str]) -> int:
    """Pixels that the longest of some labels takes left of an axis."""
    return 16 + 7 * max(map(len, labels))
