"""Prompts by a task's name, and how many a task has."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pcbench.errors import BadData, ConfigError, shown
from pcbench.extensions import GUIDE
from pcbench.registry import GENERATORS, load
from pcbench.tasks.base import Example, FileTask, Prompts, Request, Task, Wrap, load_task, table_place, unfit
from pcbench.tasks.official.reading import answer_limit, bad_record, source
from pcbench.tasks.official.units import units
from pcbench.types import CHAT_DATE, Tokenizer

__all__ = ["example", "size"]

NONE: Mapping[str, Any] = MappingProxyType({})


def example(
    name: str,
    tokenizer: Tokenizer,
    *,
    context_tokens: int,
    new_tokens: int | None,
    seed: int,
    index: int,
    prompts: Prompts = "auto",
    chat: Wrap = "auto",
    prompt_tokens: int | None = None,
    chat_date: str = CHAT_DATE,
    chat_arguments: Mapping[str, Any] = NONE,
) -> Example:
    """Prompt `index` of a task; the arguments are those of `Request`.

    Without `new_tokens` an answer has as many as the task says.

    Raises:
        ConfigError: there is no such task or record, or no room for what it must hold.
        BadData: the task's files, or what its generator returns, are not what they must be.
        BadRecord: this record is not, or cannot be scored.
        DataMissing: the task's file is not there, or not that of the prompts asked for.
    """
    task = load_task(name, "task")
    if not isinstance(task, FileTask) and (prompts, chat) != ("auto", "auto"):
        raise ConfigError(f"{name}: templates and chat of tasks with files, got {prompts} and {chat}; leave them out")
    if not isinstance(task, FileTask) and chat_arguments:
        raise ConfigError(f"{name}: chat_arguments of tasks with files, got {dict(chat_arguments)}; leave them out")
    if not isinstance(task, FileTask) and prompt_tokens is not None:
        raise ConfigError(f"{name}: prompt_tokens of tasks with files, got {prompt_tokens}; leave it out")
    build = load(GENERATORS, "generator", task.generator, table_place(name))
    request = Request(
        name=name,
        task=task,
        tokenizer=tokenizer,
        context_tokens=context_tokens,
        new_tokens=_new_tokens(task, prompts) if new_tokens is None else new_tokens,
        seed=seed,
        index=index,
        prompts=prompts,
        chat=chat,
        prompt_tokens=prompt_tokens,
        chat_date=chat_date,
        chat_arguments=chat_arguments,
    )
    built = build(request)
    if not isinstance(built, Example):
        raise BadData(f"generator {task.generator}: a pcbench.tasks.Example, got {shown(built)}; {GUIDE}")
    if isinstance(task, FileTask) and (wrong := unfit(task, built.answers, built.classes)):
        raise bad_record(request, wrong)
    return built


def _new_tokens(task: Task, prompts: Prompts) -> int:
    return answer_limit(task, prompts) if isinstance(task, FileTask) else task.new_tokens


def size(name: str, context_tokens: int | None = None) -> int | None:
    """How many prompts a task has, mostly one a record; None for a generated one, which has as many as asked.

    Args:
        name: the task.
        context_tokens: as in `Request`, for tasks with a file a length; None takes the shortest.

    Raises:
        ConfigError: there is no such task.
        BadData: its file cannot be read.
        DataMissing: its file is not there.
    """
    task = load_task(name, "task")
    if not isinstance(task, FileTask):
        return None
    return units(source(name, task, context_tokens), task.unit) * task.times
