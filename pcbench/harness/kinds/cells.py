"""What cells of every kind must be."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from pcbench.errors import ConfigError
from pcbench.suites.labels import labels
from pcbench.types import Cell

__all__ = ["titled"]

# a dataclass with a `cell`
Prepared = TypeVar("Prepared")


def titled(where: str, prepared: Sequence[Prepared]) -> list[Prepared]:
    """The cells of a run with what they are called there.

    Args:
        where: the suite's file.
        prepared: of a run.

    Raises:
        ConfigError: a cell is there twice, or two methods have one label.
    """
    cells: list[Cell] = [one.cell for one in prepared]  # type: ignore[attr-defined]
    _check_labels(where, cells)
    named = [replace(cell, title=title) for cell, title in zip(cells, labels(cells), strict=True)]
    seen: set[str] = set()
    for cell in named:
        if cell.key in seen:
            raise ConfigError(f"{where}: every cell once, got {cell.name} twice; remove one")
        seen.add(cell.key)
    return [replace(one, cell=cell) for one, cell in zip(prepared, named, strict=True)]  # type: ignore[type-var]


def _check_labels(where: str, cells: Sequence[Cell]) -> None:
    methods: dict[str, str] = {}
    for cell in cells:
        if cell.label is not None and methods.setdefault(cell.label, cell.method) != cell.method:
            raise ConfigError(
                f'{where}: cell.label: one method for a label, got "{cell.label}" of {methods[cell.label]} and '
                f"{cell.method}; give them different labels"
            )
