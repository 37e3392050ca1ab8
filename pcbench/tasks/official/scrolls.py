"""SCROLLS' question tasks in a few shots, from files with examples in every record."""

from pcbench.tasks.base import Example, Request
from pcbench.tasks.official.fitting import file_example
from pcbench.tasks.official.reading import Parts, bad_record, filled, read, read_all, template
from pcbench.tasks.official.records import Record

__all__ = ["scrolls"]


class FewShotRecord(Record):
    """A document, a question and one right answer, and worked questions of other documents with their answers."""

    id: str
    input: str
    query: str
    output: str
    query_examples: list[str]
    output_examples: list[str]


def scrolls(request: Request) -> Example:
    """A question behind its document and the worked ones; right is the answer of every record with its id.

    Source: SCROLLS, arXiv:2201.03533; few shots as in arXiv:2402.17463.
    """
    record = read(request, FewShotRecord)
    worked = list(zip(record.query_examples, record.output_examples, strict=False))
    if not len(worked) == len(record.query_examples) == len(record.output_examples):
        raise bad_record(
            request,
            f"an output of each example, got {len(record.output_examples)} of {len(record.query_examples)}",
        )
    words, before, after = template(request)
    shots = "".join(f"\n\nQuestion: {query}\nAnswer: {output}" for query, output in worked)
    parts = Parts(before, record.input, shots + filled(after, {"input": record.query}, words))
    answers = dict.fromkeys(same.output for same in read_all(request, FewShotRecord))
    return file_example(request, parts, words, [*answers])
