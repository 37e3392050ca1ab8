"""Rows of files as dataclasses: every key known, every value of its kind, every number one that can be measured."""

import typing
from dataclasses import MISSING, fields
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic import Field, create_model
from typing_extensions import TypedDict

from pcbench.config import Table, validate
from pcbench.errors import ConfigError, shown
from pcbench.types import SCHEMA, Part, Record, Sample

__all__ = ["EDITED", "ROWS", "Rows", "check_schema"]

EDITED = "was the file edited?"

T = TypeVar("T", Record, Sample, Part)

# what no measurement is below or beyond: a nanosecond in ms, an exabyte
LEAST, MOST = 1e-6, 10**18
# from 0 to 1
SHARES = {"score", "score_ci_low", "score_ci_high", "key_chunk_kept", "key_depth", "score_vs_full_p"}
# what something is divided by, or drawn on a scale of logarithms
POSITIVE = {"samples_ms", "warmup_ms", "ms_p10", "ms_p50", "ms_p90", "ms_ci_low", "ms_ci_high", "context_tokens"}
DIFFERENCES = {"score_vs_full", "score_vs_full_ci_low", "score_vs_full_ci_high"}
# of either sign
SIGNED = {"nll_vs_full", "nll_vs_full_ci_low", "nll_vs_full_ci_high"}
FREE = {"method_config", "telemetry_summary", "chunk_scores"}
# each at most the next
ASCENDING = (
    ("ms_p10", "ms_p50", "ms_p90"),
    *(
        (f"{name}_ci_low", f"{name}_ci_high")
        for name in (
            "ms",
            "served_ms",
            "decode_ms",
            "score",
            "score_vs_full",
            "nll",
            "nll_vs_full",
            "decode_speedup_vs_full",
        )
    ),
    *((f"speedup_{what}_ci_low", f"speedup_{what}_ci_high") for what in ("vs_full", "vs_reference", "vs_baseline")),
)


class Parity(TypedDict):
    """Error of an op and what it may be; an error that is not finite is the largest number."""

    err: Annotated[float, Field(ge=0)]
    bound: Annotated[float, Field(ge=0)]


class Rows(Generic[T]):
    """What one row of a file may hold.

    Args:
        kind: the dataclass of a row.
    """

    def __init__(self, kind: type[T]) -> None:
        self.kind: type[T] = kind
        hints = typing.get_type_hints(kind)
        self.table: type[Table] = create_model(  # type: ignore[call-overload]
            kind.__name__,
            __base__=Table,
            **{f.name: (_bounded(f.name, hints[f.name]), _default(f)) for f in fields(kind) if f.name != "schema"},
        )

    def read(self, data: Any, where: str) -> T:
        """A row.

        Args:
            data: of JSON.
            where: file and line, the head of the message.

        Raises:
            ConfigError: it is none; the message names the key path.
        """
        if not isinstance(data, dict):
            raise ConfigError(f"{where}: a JSON object, got {shown(data)}; {EDITED}")
        if "schema" in data and self.kind is Record:
            check_schema(data["schema"], where)
            data = {name: value for name, value in data.items() if name != "schema"}
        held = validate(self.table, data, where, EDITED)
        row: T = self.kind(**{name: getattr(held, name) for name in held.model_fields_set})
        _check_order(row, where)
        return row


def check_schema(found: Any, where: str) -> None:
    """Refuses what another version wrote: its keys may mean something else.

    Raises:
        ConfigError: names both numbers.
    """
    if type(found) is not int or found != SCHEMA:
        raise ConfigError(f"{where}: schema {SCHEMA}, got {shown(found)}; read it with the pcbench that wrote it")


def _check_order(row: Any, where: str) -> None:
    for names in ASCENDING:
        values = [(name, x) for name in names if (x := getattr(row, name, None)) is not None]
        for (low, a), (high, b) in pairwise(values):
            if a > b:
                raise ConfigError(f"{where}: {low}: at most {high} ({b:g}), got {a:g}; {EDITED}")


def _default(field: Any) -> Any:
    """A default is not looked at; the dataclass has its own."""
    return ... if field.default is MISSING and field.default_factory is MISSING else None


def _bounded(name: str, kind: Any) -> Any:
    """A type with the bounds of its numbers."""
    if name in FREE:
        return kind
    if name == "parity_ops":
        return dict[str, Parity] | None
    if name == "parity_err":
        return Annotated[float, Field(ge=0)] | None
    if name == "samples_ms":
        times: Any = list[_number(name, float)]  # type: ignore[misc]
        return Annotated[times, Field(min_length=1)] | None
    return _with_numbers(name, kind)


def _with_numbers(name: str, kind: Any) -> Any:
    if kind in (int, float):
        return _number(name, kind)
    inner = tuple(part if part is NoneType else _with_numbers(name, part) for part in get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        return Union[inner]  # noqa: UP007
    return get_origin(kind)[inner] if get_origin(kind) in (list, dict) else kind


def _number(name: str, kind: type) -> Any:
    if name in SHARES:
        return Annotated[kind, Field(ge=0, le=1)]
    if name in DIFFERENCES:
        return Annotated[kind, Field(ge=-1, le=1)]
    if name in SIGNED:
        return Annotated[kind, Field(ge=-MOST, le=MOST)]
    if name in POSITIVE or name.startswith("speedup_"):
        return Annotated[kind, Field(ge=LEAST if kind is float else 1, le=MOST)]
    return Annotated[kind, Field(ge=0, le=MOST)]


ROWS: dict[type, Rows[Any]] = {kind: Rows(kind) for kind in (Record, Sample, Part)}
