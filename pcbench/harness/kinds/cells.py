"""What cells of every kind must be."""

from collections.abc import Iterable

from pcbench.errors import ConfigError
from pcbench.types import Cell

__all__ = ["check_once"]


def check_once(where: str, cells: Iterable[Cell]) -> None:
    """Refuses cells that are the same.

    Args:
        where: the suite's file.
        cells: of a run.

    Raises:
        ConfigError: names one that is there twice.
    """
    seen: set[str] = set()
    for cell in cells:
        if cell.key in seen:
            raise ConfigError(f"{where}: every cell once, got {cell.name} twice; remove one")
        seen.add(cell.key)
