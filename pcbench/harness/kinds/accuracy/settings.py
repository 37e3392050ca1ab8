"""Suites of accuracy: tasks × lengths × methods × backends; nothing is timed."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pcbench.config import Context, Count, Dtype, Repeats, Seconds, Seed, Table, every_key_optional, validate
from pcbench.errors import ConfigError
from pcbench.harness.kinds.methods.settings import Merge, MethodChoice, MethodSuite, Workload
from pcbench.registry import METHODS, task_tables
from pcbench.suites.files import Source
from pcbench.types import CHAT_DATE

__all__ = ["AccuracySettings", "accuracy_suite"]

Names = Annotated[list[str], Field(min_length=1)]


class AccuracySettings(MethodChoice):
    """`[suite]` with the device's table merged over it.

    Args:
        context_tokens: of the whole prompt with its new tokens; at most so many where a task has records.
        benchmark: whose names `tasks` are: with longbench, `qasper` is the task longbench/qasper.
        tasks: what is answered.
        average: whose plain mean is recorded too, over those of `tasks` that ran.
        by_words: every task's score is recorded by the length of its records too, in LongBench-E's buckets.
        device_map: "auto" spreads a model that is larger than one GPU over all of them.
        prompts: of every task; None takes all records of a task that has records.
        new_tokens: of an answer at most; None takes the task's own limit.
        templates: whose texts stand around a record; auto: the official ones where their file is there, else ours.
        chat: whether the model's chat template stands around a prompt; auto: as the benchmark does it.
        chat_date: the day that a chat template is told as today's; the same in every run unless set.
        chat_arguments: values of other names that the model's chat template knows, as enable_thinking = false;
            chat_template is the name of one of several templates.
        thinking: cut: of an answer only what stands behind `</think>` is scored; keep: all of it.
        prompt_tokens: of a record's prompt at most, by method: a number, "published" for what the benchmark's
            published scores of this model were made with, or "released" for what ParallelComp's runner gives the
            model; where neither is known, and for other methods, as far as context_tokens.
        timeout_s: of a group; needs --isolate.
        methods, kv_tokens, quantize: as `MethodChoice` says.
    """

    kind: str
    model: str
    dtype: Dtype
    context_tokens: Annotated[list[Context], Field(min_length=1)]
    tasks: Names
    benchmark: str = ""
    average: Names | None = None
    by_words: bool = False
    device_map: Literal["auto"] | None = None
    seed: Seed = 0
    prompts: Repeats | None = None
    new_tokens: Count | None = None
    templates: Literal["auto", "official", "pcbench", "parallelcomp"] = "auto"
    chat: Literal["auto", "always", "never"] = "auto"
    chat_date: date = date.fromisoformat(CHAT_DATE)
    chat_arguments: dict[str, bool | int | float | str] = Field(default_factory=dict)
    thinking: Literal["cut", "keep"] = "cut"
    prompt_tokens: dict[str, Count | Literal["published", "released"]] = Field(default_factory=dict)
    timeout_s: Seconds | None = None


Partial = every_key_optional(AccuracySettings, without=("kind",))


class AccuracyFile(Table):
    """The top level of a suite file; `[suite]` itself is checked after merging."""

    suite: dict[str, Any]
    device: dict[Literal["cpu", "gpu"], Partial] = Field(default_factory=dict)  # type: ignore[valid-type]
    cell: Annotated[list[dict[str, Any]], Field(min_length=1)]
    preset: dict[str, dict[str, Any]] = Field(default_factory=dict)


# what a file says of its own tasks
OF_TASKS = ("tasks", "average", "by_words", "prompts", "new_tokens")


def accuracy_suite(source: Source, model: str | None, methods: Sequence[str]) -> MethodSuite:
    """The suite of a file whose workloads are tasks.

    Args:
        source: the file and what changes it; where it comes with tasks, nothing counts that the file says of its own.
        model: overrides the suite's model.
        methods: keeps only the cells of these methods; one without a cell gets a cell of its defaults.

    Raises:
        ConfigError: anything unknown or impossible, by key path.
    """
    if source.tasks:
        source = _without_tasks(source)
    file = validate(AccuracyFile, source.document, source.where)
    merged = Merge(source, AccuracySettings, (), file.cell, model, methods)
    if source.tasks:
        merged.settings["tasks"] = list(source.tasks)
    where = f"{source.where}: suite"
    settings = validate(AccuracySettings, merged.settings, where)
    tasks = _named("--task" if source.tasks else f"{where}.tasks", settings.benchmark, settings.tasks)
    average = settings.average and _named(f"{where}.average", settings.benchmark, settings.average)
    settings = settings.model_copy(update={"average": average and list(average)})
    for method in settings.prompt_tokens:
        if method not in METHODS:
            raise METHODS.unknown(f"{source.where}: suite.prompt_tokens", "method", method)
    workloads = [
        Workload(name=name, task=task, timed=False, prompts=settings.prompts, new_tokens=settings.new_tokens)
        for name, task in tasks.items()
    ]
    cells = merged.checked_cells()
    return MethodSuite(source.name, source.where, settings, source.data_dir, workloads, cells).checked()


def _without_tasks(source: Source) -> Source:
    suite = {key: value for key, value in source.document["suite"].items() if key not in OF_TASKS}
    return replace(source, document=source.document | {"suite": suite})


def _named(where: str, benchmark: str, names: Sequence[str]) -> dict[str, str]:
    """Short name → task, of tasks that may be named with or without their benchmark."""
    found: dict[str, str] = {}
    for name in names:
        candidates = [name] if task_tables().is_file(name) else [f"{benchmark}/{name}", name]
        task = next((task for task in candidates if task in task_tables()), None)
        if task is None:
            raise task_tables().unknown(where, "task", name, f"{benchmark}/")
        short = task_tables().short(task).removeprefix(f"{benchmark}/")
        if (other := found.get(short)) is not None:
            if Path(other).resolve() == Path(task).resolve():
                raise ConfigError(f"{where}: every task once, got {name} twice; remove one")
            raise ConfigError(
                f"{where}: a name of its own for each, got two tasks called {short}: {other} and {task}; rename one"
            )
        found[short] = task
    return found
