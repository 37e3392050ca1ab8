"""Stored predictions: one JSON object a line, read strictly, every bad line named."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pcbench.errors import ConfigError, DataMissing
from pcbench.json_text import value_of
from pcbench.plain_files import read_lines, text_of
from pcbench.tasks.scorecards.benchmarks import Benchmark

__all__ = ["Folder", "Prediction", "SkippedLine", "read_folder"]

# far beyond what a model answers
LINE_BYTES = 1 << 26
# what a line calls the id of its record
IDS = ("_id", "id")


@dataclass(frozen=True)
class Prediction:
    """One line; `line` is 1-based and stays what it was when other lines are skipped, `id` is that of its record."""

    line: int
    text: str
    answers: tuple[Any, ...]
    classes: tuple[str, ...]
    id: str | None = None


@dataclass(frozen=True)
class SkippedLine:
    """A line that could not be scored, and why."""

    file: str
    line: int
    reason: str


@dataclass
class Folder:
    """The predictions of a folder.

    Args:
        datasets: name → its predictions, in the benchmark's order.
        skipped: name of a file's dataset → why it was left out.
        skipped_lines: lines that are not predictions.
        thoughts: dataset → predictions from which a thought was cut.
        repeated: dataset → lines whose id a later line has, too; the last of an id counts.
    """

    path: Path
    datasets: dict[str, list[Prediction]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    skipped_lines: list[SkippedLine] = field(default_factory=list)
    thoughts: dict[str, int] = field(default_factory=dict)
    repeated: dict[str, list[int]] = field(default_factory=dict)


def read_folder(path: Path, name: str, benchmark: Benchmark) -> Folder:
    """All prediction files of a folder.

    Args:
        path: a folder.
        name: the benchmark's, for messages.
        benchmark: what the files are called and what stands in them.

    Raises:
        DataMissing: there is no such folder, or no line of it is a prediction of the benchmark.
    """
    layout = f"{benchmark.prefix}<dataset>.jsonl"
    if not os.path.isdir(path):
        raise DataMissing(f"{path}: a folder with {layout} files, got none; give the folder of stored predictions")
    folder = Folder(path)
    known = {benchmark.file(dataset): dataset for dataset in benchmark.datasets}
    found = {file.name for file in path.glob("*.jsonl")}
    for other in sorted(found - set(known)):
        # a name that is not UTF-8 can be printed
        shown = os.fsencode(other.removesuffix(".jsonl").removeprefix(benchmark.prefix)).decode(errors="replace")
        folder.skipped[shown] = f"not a dataset of {name}"
    for file in (file for file in known if file in found):
        _read_file(path / file, known[file], benchmark, folder)
    if not folder.datasets:
        got = f"{len(found)} .jsonl files without a line of one{_first_reason(folder)}"
        raise DataMissing(f"{path}: {layout} files of {name}, got {got}; see --benchmark")
    return folder


def _first_reason(folder: Folder) -> str:
    if folder.skipped_lines:
        one = folder.skipped_lines[0]
        return f" ({one.file} line {one.line}: {one.reason})"
    return next((f" ({name}: {reason})" for name, reason in folder.skipped.items()), "")


def _read_file(path: Path, dataset: str, benchmark: Benchmark, folder: Folder) -> None:
    try:
        lines = [line.removesuffix(b"\n") for _, line in read_lines(path, LINE_BYTES)]
    except (ConfigError, DataMissing) as error:
        folder.skipped[dataset] = str(error)
        return
    predictions = []
    for number, line in enumerate(lines, start=1):
        try:
            predictions.append(_parsed(number, line, benchmark))
        except ValueError as error:
            folder.skipped_lines.append(SkippedLine(path.name, number, str(error)))
    if not predictions:
        folder.skipped[dataset] = "no line is a prediction" if lines else "the file is empty"
        return
    last = {p.id: p for p in predictions}
    counted = [p if p.id is None else last[p.id] for p in predictions]
    for one, that in zip(predictions, counted, strict=True):
        if one.answers != that.answers:
            both = f"lines {one.line} and {that.line} have one id, {one.id}, and other answers"
            folder.skipped[dataset] = f"{both}; give every record an id of its own, or none"
            return
    folder.datasets[dataset] = [one for one, that in zip(predictions, counted, strict=True) if one is that]
    if repeated := [one.line for one, that in zip(predictions, counted, strict=True) if one is not that]:
        folder.repeated[dataset] = repeated


def _parsed(number: int, line: bytes, benchmark: Benchmark) -> Prediction:
    try:
        record = value_of(text_of(line))
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError(f"a JSON object, got {_kind(record)}")
    text = _first(record, benchmark.predictions)
    if not isinstance(text, str):
        raise ValueError(f"{benchmark.predictions[0]}: a string, got {_kind(text)}")
    answers = _first(record, benchmark.answers)
    answers = answers if isinstance(answers, list) else [answers]
    if not all(isinstance(answer, str | int | float) for answer in answers):
        raise ValueError(f"{benchmark.answers[0]}: strings or numbers, got {_kind(_first(record, benchmark.answers))}")
    classes = record.get("all_classes") or []
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"all_classes: a list of strings or null, got {_kind(classes)}")
    return Prediction(number, text, tuple(answers), tuple(classes), _id(record))


def _id(record: Mapping[str, Any]) -> str | None:
    """Of the record a line answers, under the names that benchmarks give it."""
    found = _first(record, IDS)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        raise ValueError(f"{' or '.join(IDS)}: a string or a number, got {_kind(found)}")
    return str(found)


def _first(record: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((record[key] for key in keys if key in record), None)


def _kind(value: Any) -> str:
    """A JSON value's type in JSON's words."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "nothing")
