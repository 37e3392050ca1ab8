"""What exists by name: methods, models, tasks, scorers, suites, ops, and the places that implement them.

Entries are strings `module:attribute` or TOML tables, so that listing imports nothing. What other packages bring
stands beside our own.
"""

import ast
import tomllib
from collections.abc import Callable, Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pcbench.errors import ConfigError, PcbenchError, shown
from pcbench.extensions import module_file
from pcbench.names import Places, Tables, inherited

__all__ = [
    "GENERATORS",
    "KINDS",
    "METHODS",
    "SCORERS",
    "WITHOUT_DEFAULTS",
    "credited",
    "described",
    "exported",
    "load",
    "method_title",
    "model_summaries",
    "model_tables",
    "op_summaries",
    "scorer_summaries",
    "summaries",
    "task_tables",
]

T = TypeVar("T")

OWN_METHODS = {
    "full": "pcbench.methods.full:Full",
    "parallel_comp": "pcbench.methods.parallel_comp:ParallelComp",
    "snapkv": "pcbench.methods.snapkv:SnapKV",
    "pyramidkv": "pcbench.methods.pyramidkv:PyramidKV",
    "adakv": "pcbench.methods.adakv:AdaKV",
    "h2o": "pcbench.methods.h2o:H2O",
    "streaming_llm": "pcbench.methods.streaming_llm:StreamingLLM",
    "tova": "pcbench.methods.tova:TOVA",
    "knorm": "pcbench.methods.knorm:Knorm",
    "keydiff": "pcbench.methods.keydiff:KeyDiff",
    "uncomp": "pcbench.methods.uncomp:UNComp",
    "uncomp_stage": "pcbench.methods.uncomp_stage:UNCompStage",
    "expected_attention": "pcbench.methods.expected_attention:ExpectedAttention",
    "chai": "pcbench.methods.chai:CHAI",
    "dual_chunk": "pcbench.methods.dual_chunk:DualChunk",
    "rope_scaling": "pcbench.methods.rope_scaling:RopeScaling",
    "star_attention": "pcbench.methods.parallel_encoding.star:StarAttention",
    "ape": "pcbench.methods.parallel_encoding.ape:APE",
    "xattention": "pcbench.methods.sparse_prefill.xattention:XAttention",
    "kvpress": "pcbench.methods.kvpress:KVPress",
    "random_tokens": "pcbench.methods.random_tokens:RandomTokens",
    "recent_only": "pcbench.methods.recent_only:RecentOnly",
}

# methods that must be told something, so that "all" leaves them out
WITHOUT_DEFAULTS = ("kvpress",)

# kinds of measurement: what `[suite] kind` may be
OWN_KINDS = {
    "prefill": "pcbench.harness.kinds.methods.kind:Prefill",
    "memory": "pcbench.harness.kinds.methods.kind:Memory",
    "throughput": "pcbench.harness.kinds.methods.kind:Throughput",
    "accuracy": "pcbench.harness.kinds.accuracy.kind:Accuracy",
    "perplexity": "pcbench.harness.kinds.perplexity.kind:Perplexity",
    "kernel": "pcbench.harness.kinds.kernel.kind:Kernel",
}

OWN_SCORERS = {
    "longbench-official+indel": "pcbench.tasks.scorers.longbench:indel",
    "longbench-official+difflib": "pcbench.tasks.scorers.longbench:difflib",
    "infinitebench-2024-06": "pcbench.tasks.scorers.infinitebench:june",
    "infinitebench-2024-06+gpt4": "pcbench.tasks.scorers.infinitebench:june_gpt4",
    "infinitebench-2024-08": "pcbench.tasks.scorers.infinitebench:august",
    "ruler": "pcbench.tasks.scorers.ruler:ruler",
    "gsm8k": "pcbench.tasks.scorers.gsm8k:gsm8k",
    "longbench-v2": "pcbench.tasks.scorers.longbench_v2:v2",
    "leval": "pcbench.tasks.scorers.leval:leval",
    "scrolls": "pcbench.tasks.scorers.scrolls:scrolls",
    "needle": "pcbench.tasks.scorers.needle:needle",
    # these explain other people's numbers
    "longbench-official+indel-unrounded": "pcbench.tasks.scorers.longbench:indel_unrounded",
    "kvpress": "pcbench.tasks.scorers.kvpress:kvpress",
    "lm-eval-v6": "pcbench.tasks.scorers.lm_eval:v6",
    "uncomp": "pcbench.tasks.scorers.uncomp:uncomp",
}

# what builds the prompts of a task from its table, and from a record where it has a file
OWN_GENERATORS = {
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
    "leval": "pcbench.tasks.official.leval:leval",
    "scrolls": "pcbench.tasks.official.scrolls:scrolls",
    "own": "pcbench.tasks.own:own",
    "variables": "pcbench.tasks.synthetic.tracing:variables",
    "common_words": "pcbench.tasks.synthetic.tracing:common_words",
    "frequent_words": "pcbench.tasks.synthetic.tracing:frequent_words",
}

KINDS = Places("kinds", OWN_KINDS, ("read", "session", "narrowed", "estimates"))


def _backends(method: Any) -> str:
    """What is wrong with the backends of a method; empty where nothing is."""
    named = method.backends
    if isinstance(named, tuple) and named and all(name in ("ops", "torch") for name in named):
        return ""
    return f'{shown(method)} with backends ("ops",), ("torch",) or both, got {shown(named)}'


METHODS = Places(
    "methods",
    OWN_METHODS,
    ("Config.model_validate", "Config.resolve", "Config.cost", "backends", "prefill", "step"),
    _backends,
)
SCORERS = Places("scorers", OWN_SCORERS, ("id", "version", "summary", "metrics", "metric"))
GENERATORS = Places("generators", OWN_GENERATORS)


@cache
def task_tables() -> Tables:
    """Task id → its table: those of every file of pcbench/tasks/data, and what installed packages bring."""
    tables: dict[str, dict[str, Any]] = {}
    for file in sorted(files("pcbench").joinpath("tasks/data").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".toml"):
            tables |= inherited(tomllib.loads(file.read_text(encoding="utf-8")), tables, file.name)
    return Tables("tasks", tables, ".jsonl")


@cache
def model_tables() -> Tables:
    """Model name → its table: those of pcbench/models/models.toml, and what installed packages bring."""
    text = files("pcbench").joinpath("models/models.toml").read_text(encoding="utf-8")
    return Tables("models", tomllib.loads(text))


def load(table: Places, what: str, name: str, where: str) -> Any:
    """The object registered as `name`.

    Args:
        table: one of the tables above.
        what: the kind of thing, for the error message: "method", "scorer", …
        name: the registered name, or `module:attribute`.
        where: who asks, for the error message.

    Raises:
        ConfigError: `name` is not in `table`, and the message holds the nearest name; or what another package brings
            cannot be used.
    """
    return table.load(what, name, where)


def described(
    names: Iterable[str], describe: Callable[[str], T], say: Callable[[str], None] | None = None
) -> dict[str, T]:
    """Name → one line about it, or what else `describe` makes of it.

    Args:
        names: of what.
        describe: name → its line.
        say: told why a name is left out, as where its package cannot be imported; None raises that.
    """
    found = {}
    for name in names:
        try:
            found[name] = describe(name)
        except PcbenchError as error:
            if say is None:
                raise
            say(str(error))
    return found


def credited(table: Places | Tables, name: str, line: str) -> str:
    """A line about a name with the package that brings it, where that is not pcbench."""
    package = table.package(name)
    return f"{line} ({package})" if package else line


def summaries(table: Places, say: Callable[[str], None] | None = None) -> dict[str, str]:
    """Name → first line of its module's docstring, read without importing it where that is possible.

    `say` as in `described`.
    """

    def describe(name: str) -> str:
        file = module_file(table[name].partition(":")[0])
        line = _first_line(_parsed(file)) if file else ""
        if not line:
            line = (load(table, table.group[:-1], name, "list").__doc__ or "").strip().partition("\n")[0]
        return credited(table, name, line)

    return described(table, describe, say)


@cache
def method_title(name: str) -> str:
    """A method's name for people: of its line in the list what stands before the colon, else `name` itself."""
    file = module_file(METHODS[name].partition(":")[0])
    before, colon, _ = (_first_line(_parsed(file)) if file else "").partition(":")
    return before if colon else name


def scorer_summaries(say: Callable[[str], None] | None = None) -> dict[str, str]:
    """Scorer id → one line about it; several share a module, so the modules are imported; none of ours imports torch.

    `say` as in `described`.
    """

    def describe(name: str) -> str:
        return credited(SCORERS, name, str(load(SCORERS, "scorer", name, "list").summary))

    return described(SCORERS, describe, say)


def model_summaries(say: Callable[[str], None] | None = None) -> dict[str, str]:
    """Model name → one line about it. `say` as in `described`."""
    tables = model_tables()
    return described(tables, lambda name: credited(tables, name, str(tables[name].get("summary", ""))), say)


def op_summaries() -> dict[str, str]:
    """Op → first line of its reference's docstring, and whether Triton has it too; read without importing torch."""
    found = {}
    for file in sorted(files("pcbench").joinpath("reference").iterdir(), key=lambda f: f.name):
        if not file.name.endswith(".py"):
            continue
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                found[node.name] = _first_line(node)
    in_triton = _names(_source("pcbench.ops.triton_refusal"), "KERNELS")
    names = _names(_source("pcbench.reference"))
    return {name: f"{found[name]} Also in Triton." if name in in_triton else found[name] for name in names}


def exported(module: str) -> list[str] | None:
    """Names in the `__all__` of a module, read without importing it; None where it is not installed."""
    file = module_file(module)
    return None if file is None else _names(_parsed(file))


def _source(module: str) -> ast.Module:
    file = module_file(module)
    assert file is not None
    return _parsed(file)


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    # a SyntaxError, or no UTF-8
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{file}: Python, got an error: {error}; mend it or uninstall its package") from None


def _first_line(node: ast.Module | ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


def _names(module: ast.Module, constant: str = "__all__") -> list[str]:
    for node in module.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == constant:
            return [str(name) for name in ast.literal_eval(node.value)]
    return []
