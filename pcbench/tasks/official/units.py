"""What a prompt of a file is of, where that is no record: a question of a record, or all records with one id."""

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pcbench.errors import BadData, BadRecord, ConfigError
from pcbench.tasks.base import UnitKind
from pcbench.tasks.files import AGAIN, count, read_record

__all__ = ["Unit", "unit", "units"]

# the key of a record's list of questions
QUESTIONS = "instructions"


class Unit(NamedTuple):
    """One of them.

    Args:
        records: their numbers in the file; the first is the one that is read.
        question: its number in the record.
    """

    records: tuple[int, ...]
    question: int = 0


def units(path: Path, kind: UnitKind) -> int:
    """How many a file has.

    Raises:
        BadData: the file cannot be read.
    """
    return count(path) if kind == "record" else len(_listed(path, kind, *_state(path)))


def unit(path: Path, kind: UnitKind, index: int) -> Unit:
    """Number `index` of a file.

    Raises:
        ConfigError: there are fewer.
        BadData: the file cannot be read.
    """
    if kind == "record":
        return Unit((index,))
    found = _listed(path, kind, *_state(path))
    if not found:
        raise BadData(f"{path}: records, got none; {AGAIN}")
    if not 0 <= index < len(found):
        raise ConfigError(f"{path}: a {kind} below {len(found)}, got {index}; lower the number of prompts")
    return found[index]


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=16)
def _listed(path: Path, kind: UnitKind, _size: int, _changed: int) -> list[Unit]:
    """All of a file. A record that is not as it should be is one, so that reading it says what is wrong."""
    found: list[Unit] = []
    places: dict[str, int] = {}
    for number in range(count(path)):
        record = _record(path, number)
        if kind == "question":
            questions = record.get(QUESTIONS)
            total = len(questions) if isinstance(questions, list) and questions else 1
            found += [Unit((number,), question) for question in range(total)]
            continue
        name = record.get("id")
        if isinstance(name, str) and name in places:
            place = places[name]
            found[place] = Unit((*found[place].records, number))
            continue
        if isinstance(name, str):
            places[name] = len(found)
        found.append(Unit((number,)))
    return found


def _record(path: Path, number: int) -> dict[str, Any]:
    try:
        record = read_record(path, number)
    except BadRecord:
        return {}
    return record if isinstance(record, dict) else {}
