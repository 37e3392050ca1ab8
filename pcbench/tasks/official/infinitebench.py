"""InfiniteBench's twelve tasks from their own files."""

import re

from pcbench.tasks.base import Example, Request
from pcbench.tasks.official.fitting import file_example
from pcbench.tasks.official.reading import Parts, bad_record, filled, read, template
from pcbench.tasks.official.records import Record

__all__ = ["infinitebench"]

CALL = re.compile(r"func_\d+\(-?\d+\)")
WHICH = re.compile(r"(The .+) of")
LETTERS = "ABCD"
CHOICES = ("longbook_choice_eng", "code_debug")

Answer = str | int | float


class InfiniteBenchRecord(Record):
    """A line of InfiniteBench; `options` of the tasks with a choice."""

    context: str
    input: str
    answer: Answer | list[Answer]
    options: list[str] | None = None


def infinitebench(request: Request) -> Example:
    """A record of InfiniteBench; the answers of a choice are [text, letter].

    Source: InfiniteBench, arXiv:2402.13718.
    """
    record = read(request, InfiniteBenchRecord)
    words, before, after = template(request)
    fields = _fields(request, record)
    parts = Parts(filled(before, fields, words), record.context, filled(after, fields, words))
    return file_example(request, parts, words, _answers(request, record))


def _fields(request: Request, record: InfiniteBenchRecord) -> dict[str, str]:
    """What templates ask for; the same text has several names in the official ones."""
    fields = {"input": record.input, "question": record.input}
    if request.task.dataset in CHOICES:
        fields |= {f"OPTION_{letter}": text for letter, text in zip(LETTERS, _options(request, record), strict=True)}
    if request.task.dataset == "code_run":
        call = _found(CALL, request, record).group()
        fields |= {"func_call": call, "func": call.partition("(")[0]}
    if request.task.dataset == "math_find":
        which = _found(WHICH, request, record)[1].lower()
        fields |= dict.fromkeys(("prefix", "prompt"), f"What is {which} in the following list?")
    return fields


def _found(pattern: re.Pattern[str], request: Request, record: InfiniteBenchRecord) -> re.Match[str]:
    found = pattern.search(record.input)
    if found is None:
        raise bad_record(request, f"an input that holds {pattern.pattern}, got {record.input!r}")
    return found


def _options(request: Request, record: InfiniteBenchRecord) -> list[str]:
    options = record.options or []
    if len(options) < len(LETTERS):
        raise bad_record(request, f"{len(LETTERS)} options, got {len(options)}")
    return options[: len(LETTERS)]


def _answers(request: Request, record: InfiniteBenchRecord) -> list[Answer]:
    answers = record.answer if isinstance(record.answer, list) else [record.answer]
    if request.task.dataset not in CHOICES or (len(answers) == 2 and answers[1] in tuple(LETTERS)):
        return answers
    options = _options(request, record)
    if not answers or answers[0] not in options:
        raise bad_record(request, f"an answer that is one of {options}, got {record.answer!r}")
    return [answers[0], LETTERS[options.index(str(answers[0]))]]
