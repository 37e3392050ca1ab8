"""What exists by name: methods, tasks, suites and the places that implement them.

Entries are strings `module:attribute`, so that listing imports nothing.
"""

from importlib import import_module
from typing import Any

from pcbench.errors import unknown_name

__all__ = ["METHODS", "SCORERS", "TASKS", "load"]

METHODS = {
    "full": "pcbench.methods.full:Full",
    "parallel_comp": "pcbench.methods.parallel_comp:ParallelComp",
}

TASKS = {
    "passkey": "pcbench.tasks.synthetic:passkey",
    "passkey_prose": "pcbench.tasks.synthetic:passkey_prose",
}

SCORERS = {
    "needle": "pcbench.tasks.scorers.needle:needle",
}


def load(table: dict[str, str], what: str, name: str, where: str) -> Any:
    """The object registered as `name`.

    Args:
        table: one of the tables above.
        what: the kind of thing, for the error message: "method", "task", …
        name: the registered name.
        where: who asks, for the error message.

    Raises:
        ConfigError: `name` is not in `table`; the message holds the nearest name.
    """
    if name not in table:
        raise unknown_name(where, what, name, table)
    module, attribute = table[name].split(":")
    return getattr(import_module(module), attribute)
