"""LongBench, LongBench-E and LongBench v2 from their own files."""

from typing import Literal

from pydantic import Field

from pcbench.tasks.base import Example, Request
from pcbench.tasks.official.fitting import file_example
from pcbench.tasks.official.reading import Parts, filled, read, template
from pcbench.tasks.official.records import Record

__all__ = ["longbench", "longbench_v2"]


class LongBenchRecord(Record):
    """A line of LongBench; `length` counts words, of Chinese text characters."""

    input: str
    context: str
    answers: list[str]
    length: int
    all_classes: list[str] | None = None


class V2Record(Record):
    """A question of LongBench v2 with its four choices; `answer` is a letter."""

    context: str
    question: str
    choice_a: str = Field(alias="choice_A")
    choice_b: str = Field(alias="choice_B")
    choice_c: str = Field(alias="choice_C")
    choice_d: str = Field(alias="choice_D")
    answer: Literal["A", "B", "C", "D"]


def longbench(request: Request) -> Example:
    """A record of LongBench or LongBench-E.

    Source: LongBench, arXiv:2308.14508.
    """
    record = read(request, LongBenchRecord)
    words, before, after = template(request)
    fields = {"input": record.input}
    parts = Parts(filled(before, fields, words), record.context, filled(after, fields, words))
    classes = record.all_classes or ()
    return file_example(request, parts, words, record.answers, classes=classes, words=record.length)


def longbench_v2(request: Request) -> Example:
    """A question of LongBench v2.

    Source: LongBench v2, arXiv:2412.15204.
    """
    record = read(request, V2Record)
    words, before, after = template(request)
    choices = {f"C_{letter}": getattr(record, f"choice_{letter.lower()}").strip() for letter in "ABCD"}
    fields = {"Q": record.question.strip(), **choices}
    parts = Parts(filled(before, fields, words), record.context.strip(), filled(after, fields, words))
    return file_example(request, parts, words, [record.answer])
