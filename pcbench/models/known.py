"""Tables of models that are known by name: pcbench's, and those of installed packages."""

from typing import Annotated

from pydantic import Field
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from pcbench.config import Table, validate
from pcbench.errors import unknown_name
from pcbench.extensions import GUIDE
from pcbench.registry import model_tables

__all__ = ["Numbers", "numbers", "stored_at"]

Size = Annotated[int, Field(ge=1)]


class Numbers(Table):
    """A `random:` model: what transformers calls its type, and its sizes."""

    summary: str
    family: str
    layers: Size
    hidden: Size
    heads: Size
    kv_heads: Size
    head_dim: Size
    mlp: Size
    vocab: Size
    positions: Size
    rope_base: Annotated[float, Field(gt=0)]


class Stored(Table):
    """A model of another package: what its weights are where they are not as they were trained, and where they lie."""

    summary: str
    id: Annotated[str, Field(min_length=1)]
    weights: str | None = None


def numbers(name: str) -> Numbers:
    """The table of a `random:` model.

    Raises:
        ConfigError: there is none, or it is no such table.
    """
    if name not in model_tables():
        raise unknown_name("--model", "model", name, model_tables())
    where = model_tables().where(name) or f"models.toml: {name}"
    table = validate(Numbers, model_tables()[name], where, GUIDE)
    if table.family not in CONFIG_MAPPING_NAMES:
        raise unknown_name(f"{where}: family", "family", table.family, CONFIG_MAPPING_NAMES)
    return table


def stored_at(name: str) -> str:
    """The Hugging Face id or folder of a model: what a package says of its name, else the name.

    Raises:
        ConfigError: what a package says is no such table.
    """
    where = model_tables().where(name)
    return validate(Stored, model_tables()[name], where, GUIDE).id if where else name
