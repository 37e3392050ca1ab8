"""What exists by name: methods, tasks, scorers, and the places that implement them.

Entries are strings `module:attribute`, and tasks are TOML tables, so that listing imports nothing.
"""

import tomllib
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any

from pcbench.errors import unknown_name

__all__ = ["GENERATORS", "METHODS", "SCORERS", "load", "task_tables"]

METHODS = {
    "full": "pcbench.methods.full:Full",
    "parallel_comp": "pcbench.methods.parallel_comp:ParallelComp",
}

SCORERS = {
    "needle": "pcbench.tasks.scorers.needle:needle",
}

# what builds the prompts of a task from its table
GENERATORS = {
    "noise": "pcbench.tasks.synthetic:noise",
    "prose": "pcbench.tasks.synthetic:prose",
}


@cache
def task_tables() -> dict[str, dict[str, Any]]:
    """Task id → its table, from every file of pcbench/tasks/data."""
    tables: dict[str, dict[str, Any]] = {}
    for file in sorted(files("pcbench").joinpath("tasks/data").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".toml"):
            tables |= tomllib.loads(file.read_text(encoding="utf-8"))
    return tables


def load(table: dict[str, str], what: str, name: str, where: str) -> Any:
    """The object registered as `name`.

    Args:
        table: one of the tables above.
        what: the kind of thing, for the error message: "method", "scorer", …
        name: the registered name.
        where: who asks, for the error message.

    Raises:
        ConfigError: `name` is not in `table`; the message holds the nearest name.
    """
    if name not in table:
        raise unknown_name(where, what, name, table)
    module, attribute = table[name].split(":")
    return getattr(import_module(module), attribute)
