"""L-Eval's closed-ended tasks with options or verdicts, from their own files."""

import re

from pcbench.tasks.base import Example, FileTask, Request
from pcbench.tasks.official.fitting import file_example
from pcbench.tasks.official.reading import Parts, bad_record, filled, read, template, unit_of
from pcbench.tasks.official.records import Record

__all__ = ["leval"]

# what is so in the document, and what is so in the world
VERDICTS = re.compile(r"\s*(true|false)\s*\[fact:\s*(true|false)\s*\]\s*", re.I)
# what a question about the document says, and in its place a question about the world
OF_DOCUMENT, OF_WORLD = "based on the world described in the document.", "based on what is so in the real world."


class LEvalRecord(Record):
    """A document with its questions and their answers, as many of both."""

    input: str
    instructions: list[str]
    outputs: list[str]


def leval(request: Request) -> Example:
    """A question of L-Eval about its document.

    Of a task that asks twice, prompts with an odd number ask the same question about the world, as a context of its
    own without the document, and answers are "true" or "false".

    Source: L-Eval, arXiv:2307.11088.
    """
    task, record = request.task, read(request, LEvalRecord)
    assert isinstance(task, FileTask)
    asked, outputs, number = record.instructions, record.outputs, unit_of(request).question
    if len(outputs) != len(asked) or not asked:
        raise bad_record(request, f"instructions, and as many outputs, got {len(asked)} and {len(outputs)}")
    question, answer = asked[number].strip(), outputs[number]
    words, before, after = template(request)
    parts = Parts(before, record.input, filled(after, {"input": question}, words))
    if task.times > 1:
        verdicts = VERDICTS.fullmatch(answer)
        if verdicts is None:
            raise bad_record(request, f'an output as "True [fact: False]", got {answer!r}')
        of_world = request.index % task.times
        answer = verdicts[1 + of_world].lower()
        if of_world:
            parts = Parts("", question.replace(OF_DOCUMENT, OF_WORLD), "\nAnswer:")
    return file_example(request, parts, words, [answer])
