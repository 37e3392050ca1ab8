"""`pcbench list`, what a run can be of, and the names that a shell completes."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Annotated

import typer
from rich.table import Table

from pcbench import registry
from pcbench.cli.terminals import err, out
from pcbench.errors import unknown_name
from pcbench.suites import suite_names, suite_summaries

__all__ = ["completed", "list_", "suite_questions"]

LISTS = ("suites", "methods", "models", "tasks", "scorers", "ops")
# so many names of one family are listed as one
MANY = 5
DEVICES = ("auto", "cpu", "cuda", "rocm")
NAMES: dict[str, Callable[[], Iterable[str]]] = {
    "lists": lambda: LISTS,
    "devices": lambda: DEVICES,
    "suites": suite_names,
    "methods": lambda: registry.METHODS,
    "models": registry.model_tables,
    "tasks": registry.task_tables,
    "scorers": lambda: registry.SCORERS,
    "ops": registry.op_summaries,
}


def completed(what: str) -> Callable[[str], list[str]]:
    """What a shell offers for an argument: the names of a list that begin as typed.

    Args:
        what: a key of `NAMES`.
    """
    return lambda incomplete: [name for name in NAMES[what]() if name.startswith(incomplete)]


def list_(
    what: Annotated[str | None, typer.Argument(help=", ".join(LISTS), autocompletion=completed("lists"))] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """List suites, methods, models, tasks, scorers, ops."""
    if what is not None and what not in LISTS:
        raise unknown_name("list", "list", what, LISTS)
    if as_json:
        lists = {name: _entries(name) for name in LISTS if what in (None, name)}
        out.print_data(lists if what is None else lists[what])
    elif what is None:
        out.print(_overview())
        out.print()
        out.print(f"a line about each: pcbench list {'|'.join(LISTS)}")
    else:
        table = Table(what, "", show_edge=False, box=None, pad_edge=False)
        for entry, summary in _entries(what).items():
            table.add_row(entry, summary)
        out.print(table)


def _overview() -> Table:
    """All names."""
    table = Table(show_header=False, show_edge=False, box=None, pad_edge=False)
    for name in LISTS:
        found = list(NAMES[name]())
        table.add_row(name, str(len(found)), ", ".join(_shortly(found)))
    return table


def suite_questions() -> Table:
    """A line about every suite: what it answers."""
    table = Table(show_header=False, show_edge=False, box=None, pad_edge=False)
    for name, summary in suite_summaries(err.print).items():
        question, mark, _ = summary.partition("? ")
        table.add_row(name, question + mark)
    return table


def _shortly(names: Collection[str]) -> list[str]:
    """Names; those with the same word before a slash, or many before an underscore, as one with their number."""
    families = Counter(name.partition("_")[0] for name in names if "_" in name)

    def head(name: str) -> str:
        if "/" in name:
            return f"{name.rpartition('/')[0]}/…"
        word, underscore, _ = name.partition("_")
        return f"{word}_…" if underscore and families[word] >= MANY else name

    counts = Counter(map(head, names))
    return [f"{name} ({count})" if name.endswith("…") else name for name, count in counts.items()]


def _entries(what: str) -> dict[str, str]:
    """Name → one line about it; imports no torch. What cannot be used of another package is a line on stderr."""
    if what == "suites":
        return suite_summaries(err.print)
    if what == "models":
        return registry.model_summaries(err.print) | {"ID or PATH": "a Hugging Face RoPE decoder in safetensors"}
    if what == "tasks":
        return registry.described(registry.task_tables(), _task, err.print)
    if what == "ops":
        return registry.op_summaries()
    if what == "scorers":
        return registry.scorer_summaries(err.print)
    return registry.summaries(registry.METHODS, err.print)


def _task(name: str) -> str:
    """What a task is, who brings it and, where it needs files, whether they are there."""
    from pcbench.tasks import load_task
    from pcbench.tasks.files import how_to_get, is_there

    tables = registry.task_tables()
    summary, table = registry.credited(tables, name, load_task(name, "list").summary), tables[name]
    if "files" not in table or is_there(table["files"]):
        return f"{summary} (files are there)" if "files" in table else summary
    return f"{summary} (no files{how_to_get(table)})"
