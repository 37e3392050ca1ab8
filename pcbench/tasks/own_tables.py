"""The table of a user's own records: `mine.toml` beside `mine.jsonl`, every key of which may be left out."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from pcbench.config import Count, Table, validate
from pcbench.errors import ConfigError, unknown_name
from pcbench.extensions import GUIDE
from pcbench.plain_files import read_toml, sha256_of
from pcbench.tasks.files import count
from pcbench.tasks.scorers import EVERY
from pcbench.types import digest

__all__ = ["ANSWERS", "NAME", "named_in", "own_table"]

NAME = re.compile(r"\{(\w+)\}")
CONTEXT = "{context}"
# what a record has beside the names of its template
ANSWERS, OTHERS = "answers", ("classes", "length")
TABLE_BYTES = 1 << 20


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise PydanticCustomError("pattern", "a regular expression ({why})", {"why": str(error)}) from None
    return text


def _template(text: str) -> str:
    if text.count(CONTEXT) != 1:
        raise PydanticCustomError("template", "a text with {name} once", {"name": CONTEXT})
    return text


class OwnTable(Table):
    """What may stand beside a file of records.

    Args:
        summary: one line.
        version: raised by whoever changes what a score means; a hash of table and records is added to it.
        template: the prompt; `{context}` is what methods may divide, other names in braces are values of a record.
        fields: name in the template, or answers, classes or length → key of the records, where they differ.
        scorer, dataset: an id of `pcbench list scorers`, and whose rules of it.
        new_tokens: of an answer at most.
        stop: text that ends an answer; stop_at: a regular expression whose first match does.
        chat: the model's chat template stands around the prompt.
        cuts: a prompt that is too long loses its middle; else it is an error.
    """

    summary: str = ""
    version: Count = 1
    template: Annotated[str, AfterValidator(_template)] = "{context}\n\nQuestion: {question}\nAnswer:"
    fields: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    scorer: str = "needle"
    dataset: str = EVERY
    new_tokens: Count = 64
    stop: str = ""
    stop_at: Annotated[str, AfterValidator(_pattern)] = ""
    chat: bool = True
    cuts: bool = True


def named_in(*texts: str) -> list[str]:
    """The names in braces, each once."""
    return list(dict.fromkeys(name for text in texts for name in NAME.findall(text)))


def own_table(path: Path) -> dict[str, Any]:
    """A task of a file of records, as the tables of pcbench/tasks/data have it.

    Args:
        path: of the records; the table lies beside it, and without one every key has its default.

    Raises:
        ConfigError: the table is wrong, by key path, or the records are no plain file or none.
        DataMissing: there are no records.
    """
    beside = path.with_suffix(".toml")
    given = read_toml(beside, TABLE_BYTES) if beside.exists() else {}
    table = validate(OwnTable, given, str(beside), GUIDE)
    known = [*named_in(table.template), ANSWERS, *OTHERS]
    for name in table.fields:
        if name not in known:
            raise unknown_name(f"{beside}: fields", "name", name, known)
    version = f"{table.version}+{digest([table.model_dump(), sha256_of(path)])}"
    if not count(path):
        raise ConfigError(f"{path}: records, one a line, got none; {GUIDE}")
    before, _, question = table.template.partition(CONTEXT)
    told = table.model_dump(exclude={"template"})
    return told | {
        "summary": table.summary or f"the records of {path.name}",
        "version": version,
        "generator": "own",
        "files": [str(path)],
        "instruction": before,
        "question": question,
    }
