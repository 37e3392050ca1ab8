"""Prompts of a user's own records."""

from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, create_model
from pydantic_core import PydanticCustomError

from pcbench.config import validate
from pcbench.errors import BadRecord, ConfigError
from pcbench.tasks.base import Example, OwnTask, Request
from pcbench.tasks.files import place, read_record
from pcbench.tasks.official.fitting import file_example
from pcbench.tasks.official.reading import Parts
from pcbench.tasks.official.records import Record
from pcbench.tasks.own_tables import ANSWERS, NAME, named_in

__all__ = ["own"]


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise PydanticCustomError("text", "a text or a number")
    return str(value)


def _texts(value: Any) -> list[str]:
    return [_text(one) for one in (value if isinstance(value, list) else [value])]


Text = Annotated[str, BeforeValidator(_text)]
Texts = Annotated[list[str], BeforeValidator(_texts)]


def own(request: Request) -> Example:
    """A record of the user's file in the template of its table.

    Raises:
        BadRecord: the record lacks what the template names, or its answers.
    """
    task = request.task
    assert isinstance(task, OwnTask)
    path = Path(task.files[0])
    record, where = read_record(path, request.index, "mend the line"), place(path, request.index)
    names = ("context", *named_in(task.instruction, task.question))
    remedy = f"mend the line, or name its keys in {path.with_suffix('.toml').name} by [fields]"
    try:
        read = validate(_kind(names, tuple(task.fields.items())), record, where, remedy)
    except ConfigError as error:
        raise BadRecord(str(error)) from None
    values = {name: getattr(read, f"value_{i}") for i, name in enumerate(names)}
    before, after = (NAME.sub(lambda found: values[found[1]], text) for text in (task.instruction, task.question))
    parts = Parts(before, values["context"], after)
    more: Any = {"classes": read.classes, "words": read.length}
    return file_example(request, parts, f"own/{task.version}", read.answers, **more)


@cache
def _kind(names: tuple[str, ...], fields: tuple[tuple[str, str], ...]) -> Any:
    """The table of a record: a text for each name in the template, under the key that `fields` says."""
    keys = dict(fields)

    def key(name: str) -> str:
        return keys.get(name, name)

    # a name of a template may be one that a table has for itself
    values: Any = {f"value_{i}": (Text, Field(alias=key(name))) for i, name in enumerate(names)}
    return create_model(
        "OwnRecord",
        __base__=Record,
        answers=(Texts, Field(alias=key(ANSWERS))),
        classes=(Texts, Field(alias=key("classes"), default=())),
        length=(int | None, Field(alias=key("length"), default=None)),
        **values,
    )
