"""JSON as everything here reads it: finite numbers, whole letters, every key once, not nested without end."""

import json
import math
import re
from typing import Any, NoReturn

from pcbench.errors import ConfigError, PcbenchError, shown

__all__ = ["kind_of", "parse_json", "value_of"]

# tables in tables; what is deeper overflows whoever walks through it
DEPTH = 50
# of a whole number: beyond it no float holds it
DIGITS = 300
# how JSON spells half a letter
HALF = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str, where: str, *, error: type[PcbenchError] = ConfigError, remedy: str = "mend it") -> Any:
    """The value that a JSON text says.

    Args:
        text: JSON by RFC 8259, so without NaN.
        where: file and line, the head of messages.
        error: what is raised.
        remedy: what to do, the end of messages.

    Raises:
        PcbenchError: of kind `error`: it is not JSON, holds a number that no float holds or half a letter, names a
            key twice, or is nested deeper than `DEPTH`.
    """
    try:
        return value_of(text)
    except ValueError as wrong:
        raise error(f"{where}: JSON, got {wrong}; {remedy}") from None


def value_of(text: str) -> Any:
    """The same for who has words of their own.

    Raises:
        ValueError: says what is wrong.
    """
    try:
        value = _DECODER.decode(text)
        _check_depth(value)
        if HALF.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half of a letter (a lone surrogate)") from None
    except RecursionError:
        raise ValueError(f"nesting deeper than {DEPTH}") from None
    except json.JSONDecodeError as wrong:
        raise ValueError(f"{wrong.msg} at character {wrong.pos}") from None
    return value


def kind_of(value: Any) -> str:
    """A value's type in JSON's words."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "nothing")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEPTH + 1):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, dict | list)]
        if not level:
            return
    raise ValueError(f"nesting deeper than {DEPTH}")


def _inside(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {shown(twice)} twice in one object")
    return made


def _whole(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"a number of {len(text):,} digits")
    return int(text)


def _real(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]}, which no float holds")
    return number


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text}, which is no JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_whole, parse_float=_real, parse_constant=_constant)
