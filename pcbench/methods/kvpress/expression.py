"""A press as text, as `AdaKVPress(SnapKVPress(compression_ratio=0.5))`: names, literals and calls; never evaluated."""

import ast
from typing import Any

from pcbench.errors import ConfigError, unknown_name
from pcbench.registry import exported

__all__ = ["PACKAGE", "built", "named", "parsed"]

PACKAGE = "kvpress"
EXAMPLE = "SnapKVPress(compression_ratio=0.5)"
# bases of others
ABSTRACT = ("BasePress", "ScorerPress")
# longer than any that says something
MOST = 2000
# presses that want what stock code and prompts do not have, or do more than press
NEEDS = {
    "ObservedAttentionPress": "needs the weights that only eager attention gives",
    "FinchPress": "needs a delimiter in the prompt",
    "KVComposePress": "needs the weights that only eager attention gives",
    "RestoreKVPress": "puts adapters into the model, with which full attention would be measured, too",
}


def parsed(text: str) -> ast.Call:
    """The call that a text is.

    Raises:
        ValueError: it is another thing, holds one, or names a press that is not in kvpress or cannot run here.
    """
    try:
        tree = ast.parse(text[: MOST + 1].strip(), mode="eval").body
    # brackets in brackets, characters that are none, numbers of thousands of digits
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if len(text) > MOST or not isinstance(tree, ast.Call):
        raise ValueError(f"input should be a press, as {EXAMPLE}")
    _check(tree, exported(PACKAGE))
    return tree


def named(tree: ast.Call) -> list[str]:
    """The presses of a call, itself first."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [node.func.id for node in calls if isinstance(node.func, ast.Name)]


def built(tree: ast.expr, library: Any) -> Any:
    """What a tree that `parsed` gave stands for.

    Args:
        tree: of a press, or of an argument.
        library: the module kvpress.

    Raises:
        ConfigError: a press does not take these arguments.
    """
    if isinstance(tree, ast.Call):
        assert isinstance(tree.func, ast.Name)
        values = [built(x, library) for x in tree.args]
        named_values = {x.arg: built(x.value, library) for x in tree.keywords if x.arg}
        try:
            return getattr(library, tree.func.id)(*values, **named_values)
        except (AssertionError, AttributeError, TypeError, ValueError) as error:
            line = (str(error) or type(error).__name__).splitlines()[0]
            raise ConfigError(
                f"kvpress: {tree.func.id} with arguments that it takes, got {ast.unparse(tree)}: {line}; change them"
            ) from error
    if isinstance(tree, ast.List):
        return [built(x, library) for x in tree.elts]
    if isinstance(tree, ast.Tuple):
        return tuple(built(x, library) for x in tree.elts)
    return ast.literal_eval(tree)


def _check(tree: ast.expr, known: list[str] | None) -> None:
    """Raises ValueError where a tree holds more than presses, literals, lists and tuples; errors as of `parsed`."""
    parts: list[ast.expr] = []
    match tree:
        case ast.Call(func=ast.Name(id=name)):
            _check_name(name, known)
            parts = [*tree.args, *(x.value for x in tree.keywords)]
            if any(x.arg is None for x in tree.keywords):
                raise ValueError(f"input should be a press without **, as {EXAMPLE}")
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            pass
        case ast.Constant(value=bool() | int() | float() | str() | None):
            pass
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float())):
            pass
        case _:
            raise ValueError(f"input should hold presses, numbers, words and lists only, as {EXAMPLE}")
    for part in parts:
        _check(part, known)


def _check_name(name: str, known: list[str] | None) -> None:
    """Raises ValueError for what is no press, where the presses are `known`, and for one that cannot run here."""
    if name in NEEDS:
        raise ValueError(
            f"input should be a press that runs on any prompt by SDPA and leaves the model alone; {name} {NEEDS[name]}"
        )
    presses = [x for x in known or [] if x.endswith("Press") and x not in ABSTRACT]
    if known is not None and name not in presses:
        _, _, said = str(unknown_name("", "press", name, presses)).partition(": ")
        raise ValueError(f"input should be a press of the installed kvpress; {said}")
