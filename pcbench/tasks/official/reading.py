"""What a benchmark's own files say: records, prompts, tokens of answers."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pcbench.config import validate
from pcbench.errors import BadData, BadRecord, ConfigError, DataMissing, shown
from pcbench.json_text import parse_json
from pcbench.plain_files import read_text
from pcbench.tasks.base import FileTask, OwnTask, Prompts, Request
from pcbench.tasks.files import AGAIN, data_dir, find, place, read_record
from pcbench.tasks.official.records import Record
from pcbench.tasks.official.units import Unit, unit

__all__ = ["Parts", "answer_limit", "bad_record", "filled", "read", "read_all", "source", "template", "unit_of"]

# the prompts of ParallelComp's authors, split (their spelling) and for methods of one window, and tokens of answers
PARALLELCOMP = {
    "parallelcomp": (
        "parallelcomp-config/dataset2prompt_context.json",
        "parallelcomp-config/dataset2prompt_quesiton.json",
    ),
    "parallelcomp-raw": ("parallelcomp-config/dataset2prompt_raw.json",),
}
PARALLELCOMP_LIMITS = "parallelcomp-config/dataset2maxlen.json"
# a field and the context in a template; LongBench v2 writes them between dollars
FIELD = re.compile(r"\{(\w+)\}|\$(Q|C_[A-D])\$")
CONTEXTS = ("{context}", "$DOC$")
TEXT_BYTES = 1 << 24
# of an answer; official limits end at 2000
MOST_TOKENS = 1 << 20

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Parts:
    """A prompt's text before its context, the context, and the text after it."""

    before: str
    context: str
    after: str

    @property
    def text(self) -> str:
        return f"{self.before}{self.context}{self.after}"


def source(name: str, task: FileTask, context_tokens: int | None) -> Path:
    """The file with a task's records; of files in folders named by length the longest that fits.

    Args:
        name: of the task; task: its table.
        context_tokens: the length; None takes the shortest.

    Raises:
        DataMissing: there is none.
    """
    if isinstance(task, OwnTask):
        return Path(task.files[0])
    found = find(name, task.files, task.fetch, task.origin)
    if "*" not in task.files[0]:
        return found[0]
    by_length = sorted((int(path.parent.name), path) for path in found if path.parent.name.isdecimal())
    fitting = [path for length, path in by_length if context_tokens is None or length <= context_tokens]
    if not fitting:
        lengths = ", ".join(str(length) for length, _ in by_length)
        raise DataMissing(
            f"{name}: records of at most {context_tokens} tokens, got {lengths or 'none'} in {found[0].parents[1]}; "
            "add them or raise context_tokens"
        )
    return fitting[0 if context_tokens is None else -1]


def read(request: Request, kind: type[R]) -> R:
    """The record of a request.

    Raises:
        ConfigError: there is none.
        BadRecord: it is another kind of record.
        DataMissing: the file is not there.
    """
    return _read(_source(request), unit_of(request).records[0], kind)


def read_all(request: Request, kind: type[R]) -> list[R]:
    """Every record of a request, where its prompt is of several; errors as of `read`."""
    return [_read(_source(request), number, kind) for number in unit_of(request).records]


def unit_of(request: Request) -> Unit:
    """What a request's prompt is of, in the task's file; errors as of `read`."""
    task = _table(request)
    return unit(_source(request), task.unit, request.index // task.times)


def _read(path: Path, number: int, kind: type[R]) -> R:
    record, where = read_record(path, number), place(path, number)
    try:
        return validate(kind, record, where, AGAIN)
    except ConfigError as error:
        raise BadRecord(str(error)) from None


def bad_record(request: Request, what: str) -> BadRecord:
    """The error for the record of a request: file, line, and what is wrong."""
    return BadRecord(f"{place(_source(request), unit_of(request).records[0])}: {what}; {AGAIN}")


def template(request: Request) -> tuple[str, str, str]:
    """Whose words, the text before the context and the text after it, with fields to fill in.

    Raises:
        ConfigError: the official template has not one context.
        DataMissing: official prompts were asked for and are not there.
    """
    task = _table(request)
    if request.prompts in PARALLELCOMP:
        paths = PARALLELCOMP[request.prompts]
        text = "".join(_official_text(_needed(request, path), "", task.dataset) for path in paths)
        return request.prompts, *_split(paths[0], task.dataset, text)
    path, _, table = task.prompts.partition(":")
    there = bool(path) and (data_dir() / path).is_file()
    if request.prompts == "pcbench" or not (there or request.prompts == "official"):
        return f"pcbench/{task.version}", task.instruction, task.question
    return "official", *_split(path, task.dataset, _official_text(_needed(request, path), table, task.dataset))


def _split(path: str, dataset: str, text: str) -> tuple[str, str]:
    before, mark, after = next((text.partition(mark) for mark in CONTEXTS if mark in text), ("", "", ""))
    if not mark or mark in after:
        raise BadData(f"{path}: a template for {dataset} with one context, got {shown(text)}; {AGAIN}")
    return before, after


def _needed(request: Request, path: str) -> Path:
    found = data_dir() / path
    if not path or not found.is_file():
        place = f"in {path} below {data_dir()}" if path else "of a task that has them in a file"
        raise DataMissing(
            f'{request.name}: {request.prompts} prompts {place}, got none; put them there or take templates = "pcbench"'
        )
    return found


def filled(text: str, fields: Mapping[str, str], where: str) -> str:
    """A template's text with its fields filled in.

    Raises:
        BadData: the template asks for a field that there is not.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in fields:
            raise BadData(f"{where}: a template with {', '.join(fields)}, got {{{name}}}; {AGAIN}")
        return fields[name]

    return FIELD.sub(value, text)


def answer_limit(task: FileTask, prompts: Prompts) -> int:
    """Tokens of an answer: by the file of the prompts' authors where it is there, else by the table.

    A user's own task has its table alone.

    Raises:
        BadData: the file says no such number.
    """
    if isinstance(task, OwnTask):
        return task.new_tokens
    limits = PARALLELCOMP_LIMITS if prompts in PARALLELCOMP else task.limits
    path = data_dir() / limits
    if not limits or not path.is_file():
        return task.new_tokens
    limit = _entry(path, "", task.dataset)
    if type(limit) is not int or not 1 <= limit <= MOST_TOKENS:
        raise BadData(f"{path}: a number of tokens for {task.dataset}, got {shown(limit)}; {AGAIN}")
    return limit


def _source(request: Request) -> Path:
    return source(request.name, _table(request), request.context_tokens)


def _table(request: Request) -> FileTask:
    assert isinstance(request.task, FileTask)
    return request.task


def _official_text(path: Path, table: str, dataset: str) -> str:
    found = _text(path) if path.suffix == ".txt" else _entry(path, table, dataset)
    if not isinstance(found, str):
        raise BadData(f"{path}: a template for {dataset}, got {shown(found)}; {AGAIN}")
    return found


def _text(path: Path) -> str:
    return read_text(path, TEXT_BYTES, error=BadData, remedy=AGAIN)


def _entry(path: Path, table: str, dataset: str) -> Any:
    entries = _tables(path, table, path.stat().st_mtime_ns)
    if dataset not in entries:
        raise BadData(f"{path}: an entry for {dataset}, got {shown(list(entries))}; {AGAIN}")
    return entries[dataset]


@lru_cache(maxsize=16)
def _tables(path: Path, table: str, _changed: int) -> dict[str, Any]:
    """A JSON object, or a dictionary that a Python file assigns to `table`; the file is read and never run."""
    text = _text(path)
    found = (
        parse_json(text, str(path), error=BadData, remedy=AGAIN) if path.suffix == ".json" else _literal(text, table)
    )
    if not isinstance(found, dict):
        what = f"table {table}".rstrip()
        raise BadData(f"{path}: a {what}, got {'none' if found is None else shown(found)}; {AGAIN}")
    return found


def _literal(text: str, table: str) -> Any:
    """What a Python file assigns to a name; None where it does not, or where the file is no Python."""
    try:
        assigned = (node for node in ast.parse(text).body if isinstance(node, ast.Assign))
        return next((ast.literal_eval(n.value) for n in assigned if getattr(n.targets[0], "id", "") == table), None)
    # the last two of what is nested too deep
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
