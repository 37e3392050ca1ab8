"""What exists by name: methods, models, tasks, scorers, suites, ops, and the places that implement them.

Entries are strings `module:attribute` or TOML tables, so that listing imports nothing.
"""

import ast
import tomllib
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any

from pcbench.errors import unknown_name

__all__ = [
    "GENERATORS",
    "METHODS",
    "SCORERS",
    "load",
    "model_tables",
    "op_summaries",
    "scorer_summaries",
    "summaries",
    "task_tables",
]

METHODS = {
    "full": "pcbench.methods.full:Full",
    "parallel_comp": "pcbench.methods.parallel_comp:ParallelComp",
}

SCORERS = {
    "longbench-official+indel": "pcbench.tasks.scorers.longbench:indel",
    "longbench-official+difflib": "pcbench.tasks.scorers.longbench:difflib",
    "infinitebench-2024-06": "pcbench.tasks.scorers.infinitebench:june",
    "infinitebench-2024-06+gpt4": "pcbench.tasks.scorers.infinitebench:june_gpt4",
    "infinitebench-2024-08": "pcbench.tasks.scorers.infinitebench:august",
    "ruler": "pcbench.tasks.scorers.ruler:ruler",
    "gsm8k": "pcbench.tasks.scorers.gsm8k:gsm8k",
    "longbench-v2": "pcbench.tasks.scorers.longbench_v2:v2",
    "needle": "pcbench.tasks.scorers.needle:needle",
    # these explain other people's numbers
    "longbench-official+indel-unrounded": "pcbench.tasks.scorers.longbench:indel_unrounded",
    "kvpress": "pcbench.tasks.scorers.kvpress:kvpress",
    "lm-eval-v6": "pcbench.tasks.scorers.lm_eval:v6",
    "uncomp": "pcbench.tasks.scorers.uncomp:uncomp",
}

# what builds the prompts of a task from its table, and from a record where it has a file
GENERATORS = {
    "noise": "pcbench.tasks.synthetic.needles:noise",
    "prose": "pcbench.tasks.synthetic.needles:prose",
    "needles": "pcbench.tasks.synthetic.needles:needles",
    "scattered": "pcbench.tasks.synthetic.needles:scattered",
    "pairs": "pcbench.tasks.synthetic.puzzles:pairs",
    "extremes": "pcbench.tasks.synthetic.puzzles:extremes",
    "calculation": "pcbench.tasks.synthetic.puzzles:calculation",
    "program": "pcbench.tasks.synthetic.puzzles:program",
    "longbench": "pcbench.tasks.official.longbench:longbench",
    "longbench_v2": "pcbench.tasks.official.longbench:longbench_v2",
    "infinitebench": "pcbench.tasks.official.infinitebench:infinitebench",
    "ruler": "pcbench.tasks.official.ruler:ruler",
    "gsm8k": "pcbench.tasks.official.gsm8k:gsm8k",
    "variables": "pcbench.tasks.synthetic.tracing:variables",
    "common_words": "pcbench.tasks.synthetic.tracing:common_words",
    "frequent_words": "pcbench.tasks.synthetic.tracing:frequent_words",
}


@cache
def task_tables() -> dict[str, dict[str, Any]]:
    """Task id → its table, from every file of pcbench/tasks/data.

    A file's table `defaults` stands under all others of the file, and under it the table that a `like` names;
    `{dataset}` in a text of `files` is the table's own.
    """
    tables: dict[str, dict[str, Any]] = {}
    for file in sorted(files("pcbench").joinpath("tasks/data").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".toml"):
            found = tomllib.loads(file.read_text(encoding="utf-8"))
            defaults = found.pop("defaults", {})
            for name, table in found.items():
                base = tables[table.pop("like")] if "like" in table else {}
                merged = base | defaults | table
                if "files" in merged:
                    merged["files"] = [path.format(**merged) for path in merged["files"]]
                tables[name] = merged
    return tables


@cache
def model_tables() -> dict[str, dict[str, Any]]:
    """Model name → its table, from pcbench/models/models.toml."""
    return tomllib.loads(files("pcbench").joinpath("models/models.toml").read_text(encoding="utf-8"))


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


def summaries(table: dict[str, str]) -> dict[str, str]:
    """Name → first line of its module's docstring, read without importing it."""
    return {name: _first_line(_source(entry.split(":")[0])) for name, entry in table.items()}


def scorer_summaries() -> dict[str, str]:
    """Scorer id → one line about it; several share a module, so the modules are imported; none imports torch."""
    return {name: str(load(SCORERS, "scorer", name, "registry").summary) for name in SCORERS}


def op_summaries() -> dict[str, str]:
    """Op → first line of its reference's docstring, read without importing torch."""
    found = {}
    for file in sorted(files("pcbench").joinpath("reference").iterdir(), key=lambda f: f.name):
        if not file.name.endswith(".py"):
            continue
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                found[node.name] = _first_line(node)
    names = _public_names(_source("pcbench.reference"))
    return {name: found[name] for name in names}


def _source(module: str) -> ast.Module:
    path = files("pcbench").joinpath(*module.split(".")[1:])
    file = path.joinpath("__init__.py") if path.is_dir() else path.parent.joinpath(f"{path.name}.py")  # type: ignore[attr-defined]
    return ast.parse(file.read_text(encoding="utf-8"))


def _first_line(node: ast.Module | ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


def _public_names(module: ast.Module) -> list[str]:
    for node in module.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    return []
