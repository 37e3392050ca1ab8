"""Stored predictions: one JSON object a line, read strictly, every bad line named."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pcbench.errors import ConfigError, DataMissing
from pcbench.json_text import kind_of, value_of
from pcbench.plain_files import read_lines, text_of
from pcbench.tasks.scorecards.benchmarks import BUCKETS, Benchmark, bucket
from pcbench.tasks.scorecards.layouts import find_predictions
from pcbench.tasks.scorecards.runs import RUN, read_samples
from pcbench.types import Sample

__all__ = ["Folder", "Prediction", "SkippedLine", "read_folder"]

# far beyond what a model answers
LINE_BYTES = 1 << 26


@dataclass(frozen=True)
class Prediction:
    """One line; `line` is 1-based and stays what it was when other lines are skipped, `id` is that of its record.

    `groups` are those in which the benchmark scores it besides its dataset.
    """

    line: int
    text: str
    answers: tuple[Any, ...]
    classes: tuple[str, ...]
    id: str | None = None
    groups: tuple[str, ...] = ()


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
        files: name → the file that they are in, as messages name it.
        skipped: name of a file's dataset → why it was left out.
        skipped_lines: lines that are not predictions.
        thoughts: dataset → predictions from which a thought was cut.
        repeated: dataset → lines whose id a later line has, too; the last of an id counts.
    """

    path: Path
    datasets: dict[str, list[Prediction]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    skipped_lines: list[SkippedLine] = field(default_factory=list)
    thoughts: dict[str, int] = field(default_factory=dict)
    repeated: dict[str, list[int]] = field(default_factory=dict)


def read_folder(path: Path, name: str, benchmark: Benchmark, method: str | None = None) -> Folder:
    """All predictions under a path.

    Args:
        path: a folder of predictions, a run of ours, or one file where the benchmark is one dataset.
        name: the benchmark's, for messages.
        benchmark: what the files are called and what stands in them.
        method: whose predictions, where there are those of several.

    Raises:
        ConfigError: several methods or files could be meant.
        DataMissing: there is no such folder, or no line of it is a prediction of the benchmark.
    """
    if os.path.isfile(path / RUN) or path.name == RUN:
        return _read_run(path, name, benchmark, method)
    found = find_predictions(path, name, benchmark, method)
    folder = Folder(path, skipped=dict(found.skipped))
    for dataset, file in found.files.items():
        folder.files[dataset] = str(file.relative_to(path)) if file != path else file.name
        _read_file(file, dataset, benchmark, folder)
    if not folder.datasets:
        got = f"{len(found.files) + len(found.skipped)} files without a line of one{_first_reason(folder)}"
        raise DataMissing(f"{path}: predictions of {name}, got {got}; see --benchmark")
    return folder


def _read_run(path: Path, name: str, benchmark: Benchmark, method: str | None) -> Folder:
    """The answers of one method in a run of ours."""
    folder = Folder(path)
    for dataset, lines in read_samples(path, name, benchmark, method).items():
        folder.files[dataset] = RUN
        _add(folder, dataset, [_from_sample(number, sample, benchmark) for number, sample in lines])
    return folder


def _from_sample(number: int, sample: Sample, benchmark: Benchmark) -> Prediction:
    # a sample holds no other groups than those of lengths
    groups = (bucket(sample.words),) if sample.words is not None and benchmark.group_names == tuple(BUCKETS) else ()
    return Prediction(number, sample.prediction, tuple(sample.answers), (), sample.id, groups)


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
            folder.skipped_lines.append(SkippedLine(folder.files[dataset], number, str(error)))
    if not predictions:
        folder.skipped[dataset] = "no line is a prediction" if lines else "the file is empty"
        return
    _add(folder, dataset, predictions)


def _add(folder: Folder, dataset: str, predictions: list[Prediction]) -> None:
    """The predictions of a dataset, of those with one id the last."""
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
        raise ValueError(f"a JSON object, got {kind_of(record)}")
    record = _own(record, benchmark)
    text = _first(record, benchmark.predictions)
    if not isinstance(text, str):
        raise ValueError(f"{benchmark.predictions[0]}: a string, got {kind_of(text)}")
    answers = _first(record, benchmark.answers)
    answers = answers if isinstance(answers, list) else [answers]
    if not all(isinstance(answer, str | int | float) for answer in answers):
        raise ValueError(
            f"{benchmark.answers[0]}: strings or numbers, got {kind_of(_first(record, benchmark.answers))}"
        )
    classes = record.get("all_classes") or []
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"all_classes: a list of strings or null, got {kind_of(classes)}")
    return Prediction(number, text, tuple(answers), tuple(classes), _id(record, benchmark), benchmark.groups(record))


def _own(record: dict[str, Any], benchmark: Benchmark) -> dict[str, Any]:
    """A line of lm-evaluation-harness as the benchmark's own: its record with the first response; others as they are.

    It has a line for each of its filters, all with the same response.
    """
    document, responses = record.get("doc"), record.get("resps")
    if not isinstance(document, dict) or not isinstance(responses, list):
        return record
    while isinstance(responses, list) and responses:
        responses = responses[0]
    # the record's own id pairs with other folders
    own = {} if _first(document, benchmark.ids) is not None else {benchmark.ids[0]: record.get("doc_id")}
    return {**document, **own, benchmark.predictions[0]: responses}


def _id(record: Mapping[str, Any], benchmark: Benchmark) -> str | None:
    """Of the record a line answers, under the names that benchmarks give it."""
    found = _first(record, benchmark.ids)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        raise ValueError(f"{' or '.join(benchmark.ids)}: a string or a number, got {kind_of(found)}")
    return str(found)


def _first(record: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((record[key] for key in keys if record.get(key) is not None), None)
