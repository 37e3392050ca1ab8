"""A task is a table: template texts, a generator of contexts and a scorer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pcbench.config import Table, validate
from pcbench.errors import unknown_name
from pcbench.registry import GENERATORS, SCORERS, load, task_tables
from pcbench.tasks.scorers import EVERY, Metric, Scorer
from pcbench.types import Tokenizer, digest

__all__ = ["Example", "Request", "Task", "example", "load_task", "score", "size"]


class Task(Table):
    """One table of pcbench/tasks/data.

    Args:
        summary: one line for `pcbench list tasks`.
        version: raised by every change that can move a score.
        generator: what builds the context, a name of `registry.GENERATORS`.
        scorer: a name of `registry.SCORERS`; dataset: whose rules of that scorer, where it has several.
        instruction: text before the context.
        needle: a line put into the context, with `{key}`, and with `{name}` where several keys have names.
        question: text after the context, up to where the answer starts; generators fill in their own `{…}`.
        key, key_name: kinds of `keys.KEYS`.
    """

    summary: str
    version: int
    generator: str
    scorer: str
    dataset: str = EVERY
    instruction: str
    needle: str = ""
    question: str
    key: str = "five digits"
    key_name: str = ""

    @property
    def scorer_id(self) -> str:
        """Name and version of the scorer, as every score shows it."""
        return f"{self.scorer}@{_scorer(self).version}"

    @property
    def score_name(self) -> str:
        """What the scorer's number is."""
        return _metric(self).name


@dataclass(frozen=True, kw_only=True)
class Example:
    """A prompt as token ids, and what a right answer holds.

    Args:
        id: `task@version/tokens/seed/index`.
        prefix: ids before the context; query: ids after it.
        answers: what the scorer compares the prediction with.
        key_span: (start, end) of the needle in the context's tokens; None where there is not one needle.
    """

    id: str
    task: str
    prefix: tuple[int, ...]
    context: tuple[int, ...]
    query: tuple[int, ...]
    answers: tuple[str, ...]
    key_span: tuple[int, int] | None
    new_tokens: int
    prompts: str = "pcbench/1"
    classes: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    tokens_before: int | None = None

    @property
    def sha256(self) -> str:
        """Of all ids: which prompt it was, exactly."""
        return digest([self.prefix, self.context, self.query], length=64)


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which prompt a generator shall build.

    Args:
        name: the task; task: its table.
        tokenizer: of the model that will read the prompt.
        context_tokens: tokens of the whole prompt with the reserved new ones, exact.
        new_tokens: tokens reserved for the answer.
        seed: of the suite; index: 0-based; other values are other prompts.
    """

    name: str
    task: Task
    tokenizer: Tokenizer
    context_tokens: int
    new_tokens: int
    seed: int
    index: int

    @property
    def id(self) -> str:
        return f"{self.name}@{self.task.version}/{self.context_tokens}/{self.seed}/{self.index}"


def load_task(name: str, where: str) -> Task:
    """The task registered as `name`.

    Raises:
        ConfigError: there is no such task, or its table is wrong.
    """
    if name not in task_tables():
        raise unknown_name(where, "task", name, task_tables())
    return validate(Task, task_tables()[name], f"tasks/data: {name}")


def size(name: str, context_tokens: int | None = None) -> int | None:
    """How many records a task has; None for a generated one."""
    return None


def example(
    name: str, tokenizer: Tokenizer, *, context_tokens: int, new_tokens: int | None, seed: int, index: int
) -> Example:
    """Prompt `index` of a task; the arguments are those of `Request`.

    Raises:
        ConfigError: there is no such task, or no room for what it must hold.
    """
    task = load_task(name, "task")
    build = load(GENERATORS, "generator", task.generator, f"tasks/data: {name}")
    built: Example = build(
        Request(
            name=name,
            task=task,
            tokenizer=tokenizer,
            context_tokens=context_tokens,
            new_tokens=12 if new_tokens is None else new_tokens,
            seed=seed,
            index=index,
        )
    )
    return built


def score(task: Task, prediction: str, answers: Sequence[Any], classes: Sequence[str] = ()) -> float:
    """0…1 by the task's scorer.

    Raises:
        ConfigError: the scorer has no rule for the task's dataset.
    """
    return _metric(task)(prediction, answers, classes)


def _scorer(task: Task) -> Scorer:
    found: Scorer = load(SCORERS, "scorer", task.scorer, "task")
    return found


def _metric(task: Task) -> Metric:
    found = _scorer(task).metric(task.dataset)
    if found is None:
        raise unknown_name("task", f"dataset of {task.scorer}", task.dataset, _scorer(task).metrics)
    return found
