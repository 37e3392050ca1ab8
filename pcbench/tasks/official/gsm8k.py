"""GSM8K from its own file."""

from pcbench.tasks.base import Example, Request
from pcbench.tasks.official.fitting import file_example
from pcbench.tasks.official.reading import Parts, filled, read, template
from pcbench.tasks.official.records import Record

__all__ = ["gsm8k"]


class GSM8KRecord(Record):
    """A problem; the answer's number stands after ####."""

    question: str
    answer: str


def gsm8k(request: Request) -> Example:
    """A problem of GSM8K, which is the context; no worked examples.

    Source: GSM8K, arXiv:2110.14168.
    """
    record = read(request, GSM8KRecord)
    words, before, after = template(request)
    parts = Parts(filled(before, {}, words), record.question, filled(after, {}, words))
    return file_example(request, parts, words, [record.answer])
