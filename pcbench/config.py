"""Strict tables: unknown keys are refused with the nearest name, values with where they stand."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    create_model,
    model_serializer,
)
from pydantic_core import ErrorDetails

from pcbench.errors import ConfigError, shown, unknown_name

__all__ = [
    "Attention",
    "Context",
    "Count",
    "Dtype",
    "KeyedTable",
    "Repeats",
    "Seconds",
    "Seed",
    "T",
    "Table",
    "attention_of",
    "bundled",
    "every_key_optional",
    "parse_value",
    "validate",
]

SEE = "see `pcbench list` and the suite's comments"
# names as tasks and methods have them
LIST_OF_WORDS = re.compile(r"\[\s*[\w./@+-]+(\s*,\s*[\w./@+-]+)*\s*\]")


# what kernels count in
Count = Annotated[int, Field(gt=0, le=2**31 - 1)]
# of weights and of what is computed
Dtype = Literal["float32", "bfloat16", "float16"]
# ten times the longest window that a model is trained for
Context = Annotated[int, Field(gt=0, le=100_000_000)]
# more passes of a nanosecond than anybody waits for
Repeats = Annotated[int, Field(gt=0, le=1_000_000)]
# what generators of random numbers take
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
# what computes the attention of chunks: the fastest on this device, our own kernel, or a library's
Attention = Literal["auto", "own", "flash", "cudnn", "flash3", "flash4", "flash_attn", "aiter"]
# what the system can wait at once, about 23 days
Seconds = Annotated[float, Field(gt=0, le=2_000_000, allow_inf_nan=False)]


class Table(BaseModel):
    """A config table: frozen, without unknown keys, without silent conversions between kinds of values."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class KeyedTable(Table):
    """A table whose dump is part of a cell's key: keys of `later` appear there unless at their default."""

    later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        return {
            name: value
            for name, value in dump(self).items()
            if name not in self.later or getattr(self, name) != fields[name].default
        }

    def explicit(self) -> dict[str, Any]:
        """The values that were given."""
        return {name: getattr(self, name) for name in self.model_fields_set}


def attention_of(config: object) -> str | None:
    """What a method's config wants the attention of chunks computed by; None where it has no key of that kind."""
    found = getattr(config, "attention", None)
    return found if found in get_args(Attention) else None


T = TypeVar("T", bound=Table)


def every_key_optional(table: type[Table], *, without: Sequence[str] = ()) -> Any:
    """A table class that may leave any key of `table` out: for tables that merge over one."""
    fields = {n: (f.annotation | None, None) for n, f in table.model_fields.items() if n not in without}  # type: ignore[operator]
    return create_model(f"Partial{table.__name__}", __base__=Table, **fields)  # type: ignore[call-overload]


def validate(table: type[T], data: Mapping[str, Any], where: str, remedy: str = "") -> T:
    """`data` as a `table`.

    Args:
        table: the class that says what may stand there.
        data: parsed TOML or JSON.
        where: file and key path, the head of the message.
        remedy: what to do, the end of the message; empty where `data` is a suite's.

    Raises:
        ConfigError: the first thing that is wrong, by its key path, with the nearest name of an unknown key.
    """
    try:
        return table.model_validate(data)
    except ValidationError as error:
        # an unknown key explains a missing one, so it comes first
        problems = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise _explain(table, problems[0], where, remedy) from None


def _explain(table: type[BaseModel], problem: ErrorDetails, where: str, remedy: str) -> ConfigError:
    *parents, last = problem["loc"] or ("",)
    if problem["type"] == "extra_forbidden":
        return unknown_name(_place(where, parents), "key", str(last), _fields_at(table, tuple(parents)))
    path = _place(where, problem["loc"])
    if problem["type"] == "missing":
        return ConfigError(f"{path}: a value is required, got none; {remedy or 'add it'}")
    # a file holds no instances
    said = re.sub(r" or instance of \w+", "", problem["msg"])
    expected = said[0].lower() + said[1:]
    return ConfigError(f"{path}: {expected}, got {shown(problem['input'])}; {remedy or SEE}")


def _place(where: str, keys: Sequence[int | str]) -> str:
    """`file: a.b[0]`, whether or not `where` already is inside the file."""
    path = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in keys)
    return where + path if ": " in where or not path else f"{where}: {path.removeprefix('.')}"


def _fields_at(table: Any, path: tuple[int | str, ...]) -> list[str]:
    """Names allowed at `path` inside `table`."""
    for part in path:
        options = _tables(table)
        table = next((o.model_fields[part].annotation for o in options if part in o.model_fields), table)
    return [name for option in _tables(table) for name in option.model_fields]


def _tables(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return [annotation] if issubclass(annotation, BaseModel) else []
    if get_origin(annotation) in (list, dict, tuple, Union, UnionType):
        return [table for part in get_args(annotation) for table in _tables(part)]
    return []


def parse_value(text: str) -> Any:
    """The value of a `--set key=value`: TOML where it parses (`[1, 2]`, `true`, `"x"`), else the text itself.

    A list of words needs no quotes: `[qasper, lcc]`.
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    # an integer of 5,000 digits and 500 brackets are no TOML either
    except (ValueError, RecursionError):
        if LIST_OF_WORDS.fullmatch(text):
            return [word.strip() for word in text[1:-1].split(",")]
        return text


def bundled(folder: str) -> Path:
    """A folder that ships with pcbench: `suites` or `templates`.

    A checkout reads its own files, an installation the copy beside the package.
    """
    root = Path(__file__).resolve().parent.parent
    checkout = root / {"suites": "suites", "templates": "reports/templates"}[folder]
    if (root / "pyproject.toml").is_file() and checkout.is_dir():
        return checkout
    return Path(str(files("pcbench"))) / "_data" / folder
