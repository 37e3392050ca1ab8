"""A task is a table: template texts, what builds its prompts, and a scorer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from pcbench.config import Count, Table, validate
from pcbench.errors import unknown_name
from pcbench.registry import GENERATORS, SCORERS, load, task_tables
from pcbench.tasks.own_tables import own_table
from pcbench.tasks.scorers import EVERY, Metric, Scorer
from pcbench.types import CHAT_DATE, Tokenizer, digest

__all__ = [
    "Example",
    "FileTask",
    "OwnTask",
    "Prompts",
    "Request",
    "Task",
    "UnitKind",
    "Wrap",
    "load_task",
    "score",
    "table_place",
    "task_id",
    "unfit",
    "why_not",
]

# whose prompts: the official ones where their file is there and else ours; or one author's, or an error
Prompts = Literal["auto", "official", "parallelcomp", "parallelcomp-raw", "pcbench"]
# whether the model's chat template stands around a prompt: as the task's table says, or not as it says
Wrap = Literal["auto", "always", "never"]
# what a prompt is of: a record, each question of a record, or all records with one id
UnitKind = Literal["record", "question", "id"]


class Task(Table):
    """One table of pcbench/tasks/data.

    Args:
        summary: one line for `pcbench list tasks`.
        version: raised by every change that can move a score.
        generator: what builds the prompt, a name of `registry.GENERATORS`.
        scorer: a name of `registry.SCORERS`; dataset: whose rules of that scorer, where it has several.
        instruction: text before the context.
        needle: a line put into the context, with `{key}`, and with `{name}` where several keys have names.
        question: text after the context, up to where the answer starts; generators fill in their own `{…}`.
        key, key_name: kinds of `keys.KEYS`.
        depth: of the needle as a share of the context; None takes a random one a prompt.
        asked, others, values: of scattered needles: names that are asked for, names that are not, keys of each.
        new_tokens: tokens of the answer where a request leaves them to the task.
    """

    summary: str
    version: int | str
    generator: str
    scorer: str
    dataset: str = EVERY
    instruction: str
    needle: str = ""
    question: str
    key: str = "five digits"
    key_name: str = ""
    depth: Annotated[float, Field(ge=0, le=1)] | None = None
    asked: Count = 1
    others: Annotated[int, Field(ge=0)] = 0
    values: Count = 1
    new_tokens: Count = 12

    @property
    def scorer_id(self) -> str:
        """Name and version of the scorer, as every score shows it."""
        return f"{self.scorer}@{_scorer(self).version}"

    @property
    def score_name(self) -> str:
        """What the scorer's number is."""
        return _metric(self).name


class FileTask(Task):
    """A task whose records are official files; its own texts serve where the official prompts are not there.

    Args:
        files: paths below `files.data_dir()`, the first that is there counts; `*` stands for a folder.
        fetch: what `pcbench data fetch` calls the files.
        origin: where their authors keep them, where nothing fetches them.
        unit: what a prompt is of; times: prompts of each.
        prompts: the file of the official prompts, with `:name` where several tables stand in it.
        limits: the file of the official tokens of an answer.
        chat: the model's chat template stands around the prompt.
        head_lines, tail_lines: lines of a record's whole prompt before and after the context.
        stop: text that ends an answer besides the model's own ends.
        stop_at: a regular expression; an answer ends with its first match.
        cuts: a prompt that is too long loses its middle; else it is an error.
    """

    instruction: str = ""
    question: str = ""
    files: Annotated[list[str], Field(min_length=1)]
    fetch: str = ""
    origin: str = ""
    unit: UnitKind = "record"
    times: Count = 1
    prompts: str = ""
    limits: str = ""
    chat: bool
    head_lines: int = 0
    tail_lines: int = 0
    stop: str = ""
    stop_at: str = ""
    cuts: bool = True


class OwnTask(FileTask):
    """A task of a user's own records, whose file is the one of `files`.

    Args:
        version: that of its table, and a hash of table and records.
        fields: name in the texts → key of a record, where they differ.
    """

    version: str
    fields: dict[str, str] = Field(default_factory=dict)


T = TypeVar("T", bound=Task)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A prompt as token ids, and what a right answer holds.

    Args:
        id: `task@version/tokens/seed/index`.
        prefix: ids before the context; query: ids after it.
        start_tokens: ids at the front of the prefix that begin every text, as a BOS.
        answers: what the scorer compares the prediction with.
        key_span: (start, end) of the needle in the context's tokens; None where there is not one needle.
        new_tokens: tokens of the answer at most.
        prompts: whose words: "official", "parallelcomp" or "pcbench/VERSION", of CPython's documentation with the
            hash of what this Python holds of it: "pcbench/VERSION+topics-HASH".
        classes: names the answer is one of, for scorers that ask.
        stop_ids: ends of an answer besides the model's own; never its first token.
        stop_at: a regular expression; the text of the answer ends with its first match; empty never matches.
        tokens_before: of the whole prompt before its middle was cut out, the same as now where nothing was; None
            for a generated prompt.
        words: length of the record as its authors count it.
        context_characters: where in the context's text each of its tokens begins; None where nobody can say.
        as_whole: the ids are those of the text tokenised whole; None where there never was a text.
        chat: a chat template stands around the prompt; None where none stands and the task's table wants none.
        seed: of the request.
        warnings: what is not as the task's authors have it.
    """

    id: str
    task: str
    prefix: tuple[int, ...]
    context: tuple[int, ...]
    query: tuple[int, ...]
    answers: tuple[str, ...]
    key_span: tuple[int, int] | None
    new_tokens: int
    prompts: str
    start_tokens: int = 0
    classes: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    stop_at: str = ""
    tokens_before: int | None = None
    words: int | None = None
    context_characters: tuple[int, ...] | None = None
    as_whole: bool | None = None
    chat: bool | None = None
    seed: int = 0
    warnings: tuple[str, ...] = ()

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
        context_tokens: tokens of the whole prompt with the reserved new ones; exact for a generated prompt, at most
            for a record.
        new_tokens: tokens reserved for the answer.
        seed: of the suite; index: 0-based; other values are other prompts. Of a record the index is its place.
        prompts, chat: choices for records.
        chat_date, chat_arguments: what the chat template is told: today's date, and values of its own names.
        prompt_tokens: of a record's prompt without its chat template and its new tokens at most; None has no limit
            besides context_tokens.
    """

    name: str
    task: Task
    tokenizer: Tokenizer
    context_tokens: int
    new_tokens: int
    seed: int
    index: int
    prompts: Prompts = "auto"
    chat: Wrap = "auto"
    prompt_tokens: int | None = None
    chat_date: str = CHAT_DATE
    chat_arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{task_id(self.name, self.task)}/{self.context_tokens}/{self.seed}/{self.index}"


def task_id(name: str, task: Task) -> str:
    """`name@version`, wherever a user's file of that name lies."""
    return f"{task_tables().short(name)}@{task.version}"


def load_task(name: str, where: str) -> Task:
    """The task registered as `name`.

    Raises:
        ConfigError: there is no such task, or its table is wrong.
    """
    if name not in task_tables():
        raise task_tables().unknown(where, "task", name)
    table = task_tables()[name]
    if "records" in table:
        return _own_task(Path(table["records"]))
    where = table_place(name)
    task = validate(FileTask if "files" in table else Task, table, where)
    # of our own a test says so
    return _known(task, where) if task_tables().where(name) else task


def table_place(name: str) -> str:
    """The head of messages about a task's table."""
    return task_tables().where(name) or f"tasks/data: {name}"


def _own_task(path: Path) -> OwnTask:
    return _known(validate(OwnTask, own_table(path), str(path)), str(path.with_suffix(".toml")))


def _known(task: T, where: str) -> T:
    """The task, where what its table names is there."""
    load(GENERATORS, "generator", task.generator, f"{where}: generator")
    scorer: Scorer = load(SCORERS, "scorer", task.scorer, f"{where}: scorer")
    if scorer.metric(task.dataset) is None:
        raise unknown_name(f"{where}: dataset", f"dataset of {task.scorer}", task.dataset, scorer.metrics)
    return task


def score(task: Task, prediction: str, answers: Sequence[Any], classes: Sequence[str] = ()) -> float:
    """0…1 by the task's scorer.

    Raises:
        ConfigError: the scorer has no rule for the task's dataset.
        ValueError: `unfit` says why.
    """
    return _metric(task)(prediction, answers, classes)


def unfit(task: Task, answers: Sequence[Any], classes: Sequence[str]) -> str:
    """Why the task's scorer cannot score a record, whatever was predicted; empty where it can."""
    return _metric(task).unfit(answers, classes)


def why_not(task: Task) -> str:
    """Why the task's scorer cannot run here; empty where it can."""
    reason = _metric(task).why_not()
    return f"{task.scorer} {reason}" if reason else ""


def _scorer(task: Task) -> Scorer:
    found: Scorer = load(SCORERS, "scorer", task.scorer, "task")
    return found


def _metric(task: Task) -> Metric:
    found = _scorer(task).metric(task.dataset)
    if found is None:
        raise unknown_name("task", f"dataset of {task.scorer}", task.dataset, _scorer(task).metrics)
    return found
