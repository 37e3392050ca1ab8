"""RULER's tasks from files that its own scripts made."""

from pcbench.tasks.base import Example, FileTask, Request
from pcbench.tasks.official.fitting import file_example
from pcbench.tasks.official.reading import Parts, read
from pcbench.tasks.official.records import Record

__all__ = ["ruler"]


class RulerRecord(Record):
    """A line of RULER; `input` is the whole prompt, in newer files without the start of the answer."""

    input: str
    outputs: list[str]
    answer_prefix: str = ""


def ruler(request: Request) -> Example:
    """A record of RULER, whose context lies between the first and the last lines of the prompt.

    Source: RULER, arXiv:2404.06654.
    """
    record = read(request, RulerRecord)
    task = request.task
    assert isinstance(task, FileTask)
    lines = f"{record.input}{record.answer_prefix}".split("\n")
    before = "".join(f"{line}\n" for line in lines[: task.head_lines])
    context = "\n".join(lines[task.head_lines : -task.tail_lines])
    after = "".join(f"\n{line}" for line in lines[-task.tail_lines :])
    return file_example(request, Parts(before, context, after), "official", record.outputs)
