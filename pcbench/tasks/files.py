"""Where official files are, and their records."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pcbench.errors import BadData, BadRecord, ConfigError, DataMissing
from pcbench.json_text import parse_json
from pcbench.plain_files import decoded, opened, read_lines, read_text
from pcbench.system.surroundings import cache_folder, expanded

__all__ = [
    "AGAIN",
    "count",
    "data_dir",
    "find",
    "how_to_get",
    "is_there",
    "place",
    "read_record",
    "same_data_dir",
    "set_data_dir",
    "with_data_dir",
]

VARIABLE = "PCBENCH_DATA"
# far beyond a record of 10 million tokens, and what one file holds
LINE_BYTES, FILE_BYTES = 1 << 28, 1 << 32
AGAIN = "get the file again"


class Line(NamedTuple):
    """Number and first byte of a line, which is not held: files have hundreds of MB."""

    number: int
    start: int


def data_dir() -> Path:
    """The folder of official files: PCBENCH_DATA, else ~/.cache/pcbench/data.

    Raises:
        ConfigError: the variable names none, or there is no home folder.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return expanded(named, VARIABLE)
    return cache_folder("data")


def set_data_dir(folder: str | Path) -> None:
    """Another folder for this process and the children it starts from now on."""
    os.environ[VARIABLE] = str(expanded(folder, "data.dir"))


@contextmanager
def same_data_dir() -> Iterator[None]:
    """Behind a `with` the folder is what it was before, whatever was set within."""
    before = os.environ.get(VARIABLE)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


@contextmanager
def with_data_dir(folder: str | Path) -> Iterator[None]:
    """Another folder until the end of a `with`."""
    with same_data_dir():
        set_data_dir(folder)
        yield


def find(name: str, patterns: list[str], fetch: str, origin: str = "") -> list[Path]:
    """The files of a task that are there.

    Args:
        name: the task, for the message.
        patterns: paths below the folder; `*` stands for any folder.
        fetch: what `pcbench data fetch` calls them; empty where nothing fetches them.
        origin: where they are from, where nothing fetches them.

    Raises:
        DataMissing: none is there; the message says where to put what.
    """
    found, root = _found(patterns), data_dir()
    if not found:
        command = f" (from {origin})" if origin else ""
        command += f", or `pcbench data fetch {fetch}` as `pcbench data list` says" if fetch else ""
        raise DataMissing(
            f"{name}: records in {' or '.join(patterns)} below {root}, got no such file; put it there{command}, "
            f"or name another folder by {VARIABLE} or --set data.dir=DIR"
        )
    return found


def how_to_get(table: Mapping[str, Any]) -> str:
    """Behind a semicolon, how the files of a task's table are to be had; empty where nobody can say."""
    if table.get("fetch"):
        return f"; pcbench data fetch {table['fetch']}"
    return f"; {table['origin']}" if table.get("origin") else ""


def is_there(patterns: list[str]) -> bool:
    """Whether `find` finds something."""
    return bool(_found(patterns))


def _found(patterns: list[str]) -> list[Path]:
    return [path for pattern in patterns for path in sorted(data_dir().glob(pattern)) if path.is_file()]


def count(path: Path) -> int:
    """Records of a file: of a .json its list, of a .jsonl its lines that are not empty.

    Raises:
        BadData: the file cannot be read.
    """
    return len(_items(path, *_state(path)))


def place(path: Path, index: int) -> str:
    """Where record `index` of a file stands, for messages."""
    if path.suffix == ".json":
        return f"{path}: record {index}"
    return f"{path}:{_items(path, *_state(path))[index].number}"


def read_record(path: Path, index: int, remedy: str = AGAIN) -> Any:
    """Record `index` of a file; `remedy` ends the message about one that is not JSON.

    Raises:
        ConfigError: there are fewer records.
        BadData: the file cannot be read.
        BadRecord: the record is not JSON.
    """
    items = _items(path, *_state(path))
    if not items:
        raise BadData(f"{path}: records, got none; get the file again")
    if not 0 <= index < len(items):
        raise ConfigError(f"{path}: a record below {len(items)}, got {index}; lower the number of prompts")
    if path.suffix == ".json":
        return items[index]
    where = place(path, index)
    with opened(path, where, BadRecord, remedy) as file:
        file.seek(items[index].start)
        line = file.readline(LINE_BYTES)
    return parse_json(decoded(line, where, error=BadRecord), where, error=BadRecord, remedy=remedy)


def _state(path: Path) -> tuple[int, int]:
    """What changes when a file does."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=64)
def _items(path: Path, _size: int, _changed: int) -> list[Any]:
    """Of a .json the records; of a .jsonl its `Line`s that are not empty."""
    if path.suffix == ".json":
        text = read_text(path, FILE_BYTES, error=BadData, remedy=AGAIN)
        records = parse_json(text, str(path), error=BadData, remedy=AGAIN)
        if not isinstance(records, list):
            raise BadData(f"{path}: a list in JSON, got a {type(records).__name__}; get the file again")
        return records
    lines, start = [], 0
    for number, line in read_lines(path, LINE_BYTES, error=BadData, remedy=AGAIN):
        if line.strip():
            lines.append(Line(number, start))
        start += len(line)
    return lines
