"""A model's files, looked at before transformers reads them: plain, of a bounded size, and what they should be."""

import math
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub.errors import HfHubHTTPError
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.utils import cached_file

from pcbench.config import validate
from pcbench.errors import ConfigError, DataMissing, shown
from pcbench.json_text import parse_json
from pcbench.models.quiet import quietly, said
from pcbench.plain_files import KINDS, read_text

__all__ = ["AGAIN", "MOST_LAYERS", "ModelFiles", "absent_weights"]

AGAIN = "get its files again"
# the deepest models that are published have a few hundred
MOST_LAYERS = 4096
# of the settings and of a chat template; the tokenizers of large vocabularies have 35 MB
SETTINGS_BYTES, TOKENIZER_BYTES = 16 << 20, 512 << 20
# keys of a config that say how many layers something has
LAYERS = re.compile(r"(num_|n_)?(\w+_)?layers?")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
REPOSITORY = re.compile(r"[\w./-]{1,96}")
SHARD = re.compile(r"[^/\\]+\.safetensors")
SETTINGS = ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# one of them holds the vocabulary
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "spiece.model")
TEMPLATES, TEMPLATE_FOLDER = ("chat_template.jinja", "chat_template.json"), "additional_chat_templates"
# what safetensors calls the dtypes that are weights as they were trained
FLOATS = ("F64", "F32", "F16", "BF16")

Ids = int | list[int] | None


class Stored(BaseModel):
    """A table of a model's folder of which only some keys are ours."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)


class ConfigJson(Stored):
    """What must hold in a config.json before its class is asked for."""

    model_type: str
    architectures: list[str] | None = None
    eos_token_id: Ids = None
    bos_token_id: Ids = None
    pad_token_id: Ids = None


class GenerationJson(Stored):
    """Of generation_config.json the ends of an answer."""

    eos_token_id: Ids = None


class IndexJson(Stored):
    """Which file holds a weight."""

    weight_map: dict[str, str] = Field(min_length=1)


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model: of a folder, or of a Hugging Face id, which are downloaded as they are asked for.

    Args:
        name: the folder or the id.
    """

    name: str

    @property
    def is_local(self) -> bool:
        return os.path.isdir(self.name)

    def config(self) -> dict[str, Any]:
        """config.json as a table.

        Raises:
            ConfigError: it is not one, or it is of a model that is not run from here: its code is its own, it is
                quantised, an adapter, or deeper than any model.
            DataMissing: it is not there.
        """
        if not self.is_local and os.path.exists(self.name):
            raise DataMissing(f"--model: a folder with config.json and safetensors, got the file {self.name}; name it")
        if self.find("adapter_config.json") is not None:
            raise ConfigError(
                f"--model: a whole model, got {self.name}: a PEFT adapter (adapter_config.json); "
                "merge it into its base model, store that and name its folder"
            )
        path = self.find("config.json", needed=True)
        if path is None:
            raise self._absent()
        table = self._table(path, ConfigJson)
        self._check_config(path, table)
        return table

    def check_tokenizer(self) -> None:
        """Raises ConfigError or DataMissing where the files of tokenizer, chat template or answers cannot be read."""
        found = {file: path for file in SETTINGS if (path := self.find(file)) is not None}
        for file, path in found.items():
            self._table(path, GenerationJson if file == "generation_config.json" else Stored)
        vocabularies = [path for file in VOCABULARIES if (path := self.find(file)) is not None]
        if not vocabularies:
            raise DataMissing(
                f"--model: a tokenizer beside the weights, got none of {', '.join(VOCABULARIES)} in {self.name}; "
                "copy the tokenizer's files there"
            )
        for path in vocabularies:
            self._check_plain(path, TOKENIZER_BYTES)
        for path in self._templates():
            read_text(path, SETTINGS_BYTES, remedy=AGAIN)

    def weights(self) -> list[Path]:
        """The files of safetensors.

        Raises:
            ConfigError: the index names something else.
            DataMissing: there is none, or not all that the index names.
        """
        if (single := self.find(WEIGHTS)) is not None:
            self._check_plain(single)
            return [single]
        index = self.find(INDEX)
        if index is None:
            raise DataMissing(
                f"--model: weights in {WEIGHTS} or {INDEX}, got none in {self.name}; "
                "store the model in safetensors (other formats run code when they are read)"
            )
        files = sorted(set(self._table(index, IndexJson)["weight_map"].values()))
        for file in files:
            if not SHARD.fullmatch(file):
                raise ConfigError(
                    f"{index}: weight_map: files of safetensors in the same folder, got {shown(file)}; {AGAIN}"
                )
        found = [path for file in files if (path := self.find(file)) is not None]
        if absent := [file for file in files if self.find(file) is None]:
            raise DataMissing(
                f"--model: the {len(files)} files that {index} names, got no {absent[0]}"
                f"{f' and {len(absent) - 1} others not' if absent[1:] else ''}; {AGAIN}"
            )
        for path in found:
            self._check_plain(path)
        return found

    def check_weights(self, wanted: Mapping[str, tuple[int, ...]], parameters: int) -> None:
        """Holds what the files say that they hold against the model that config.json describes; reads no weight.

        Args:
            wanted: name → shape of the model's weights.
            parameters: of the model.

        Raises:
            ConfigError: the weights are quantised.
            DataMissing: there are fewer than `parameters`; the message names one.
        """
        stored: dict[str, tuple[int, ...]] = {}
        for path in self.weights():
            for name, shape, dtype in self._headers(path):
                if dtype in FLOATS:
                    stored[name] = shape
                # buffers, as masks of attention, may be of any dtype
                elif name in wanted:
                    raise ConfigError(
                        f"--model: weights in {', '.join(FLOATS)}, got {name} in {dtype} in {path}; "
                        "take weights that are not quantised"
                    )
        held = sum(math.prod(shape) for shape in stored.values())
        if held < parameters:
            raise absent_weights(self.name, [name for name, shape in wanted.items() if stored.get(name) != shape])

    def find(self, file: str, *, needed: bool = False) -> Path | None:
        """Where a file is, downloaded where the model is an id; None where it is not one of the model's.

        Raises:
            DataMissing: the model cannot be reached, or the file is `needed` and is not there.
        """
        if self.is_local:
            path = Path(self.name) / file
            return path if os.path.lexists(path) else None
        try:
            with quietly():
                found = cached_file(self.name, file, _raise_exceptions_for_missing_entries=needed)
        # with names that are none libraries fail in many ways
        except (OSError, ValueError, HfHubHTTPError) as error:
            name = self.name if REPOSITORY.fullmatch(self.name) else shown(self.name)
            raise DataMissing(
                f"--model: a known name, a Hugging Face id or a folder, got {name}: {said(error)}; "
                "see `pcbench list models`"
            ) from None
        return None if found is None else Path(found)

    def _templates(self) -> Iterator[Path]:
        for file in TEMPLATES:
            if (path := self.find(file)) is not None:
                yield path
        folder = Path(self.name) / TEMPLATE_FOLDER
        if self.is_local and os.path.isdir(folder):
            yield from sorted(folder.glob("*.jinja"))

    def _table(self, path: Path, schema: type[Stored]) -> dict[str, Any]:
        where = str(path)
        table = parse_json(read_text(path, SETTINGS_BYTES, remedy=AGAIN), where, remedy=AGAIN)
        if not isinstance(table, dict):
            raise ConfigError(f"{where}: a JSON object, got {shown(table)}; {AGAIN}")
        validate(schema, table, where, AGAIN)
        return table

    def _check_plain(self, path: Path, at_most: int | None = None) -> None:
        """Refuses, without opening it, what is no plain file or too large."""
        try:
            found = path.stat()
        except OSError as error:
            raise DataMissing(f"{path}: a file, got {error.strerror}; {AGAIN}") from None
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"{path}: a plain file, got {KINDS.get(stat.S_IFMT(found.st_mode), 'none')}; {AGAIN}")
        if at_most is not None and found.st_size > at_most:
            raise ConfigError(f"{path}: at most {at_most:,} bytes, got {found.st_size:,}; {AGAIN}")

    def _check_config(self, path: Path, table: Mapping[str, Any]) -> None:
        if table["model_type"] not in CONFIG_MAPPING_NAMES:
            own = " and code of its own (auto_map), which is never run" if "auto_map" in table else ""
            raise ConfigError(
                f"{path}: model_type: a kind of model that transformers {transformers.__version__} knows, "
                f"got {shown(table['model_type'])}{own}; choose another model"
            )
        if table.get("quantization_config") is not None:
            how = table["quantization_config"]
            kind = how.get("quant_method") if isinstance(how, dict) else None
            raise ConfigError(
                f"--model: weights as they were trained, got {self.name} with quantization_config "
                f"({shown(kind) if kind else 'of an unknown kind'}); take the model before it was quantised"
            )
        for key in ("configuration_files", "transformers_weights"):
            if table.get(key) is not None:
                raise ConfigError(
                    f"{path}: a model in config.json and {WEIGHTS}, got {key}; store it under those names"
                )
        for key, value in _depths(table):
            if value > MOST_LAYERS:
                raise ConfigError(f"{path}: {key}: at most {MOST_LAYERS} layers, got {shown(value)}; {AGAIN}")

    def _headers(self, path: Path) -> Iterator[tuple[str, tuple[int, ...], str]]:
        """Name, shape and dtype of every weight of a file."""
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118 - it is no dictionary
                    weight = file.get_slice(name)
                    yield name, tuple(weight.get_shape()), weight.get_dtype()
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"{path}: safetensors, got an error: {said(error)}; {AGAIN}") from None

    def _absent(self) -> DataMissing:
        return DataMissing(
            f"--model: a folder with config.json and safetensors, got {self.name} without config.json; {AGAIN}"
        )


def absent_weights(name: str, absent: Sequence[str]) -> DataMissing:
    """The error for weights that a model's config wants and its files do not hold."""
    which = f"{min(absent)}{f' and {len(absent) - 1} more' if absent[1:] else ''}" if absent else "its config"
    return DataMissing(f"--model: weights of every part of {name}, got none that fit {which}; {AGAIN}")


def _depths(table: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Keys that say how many layers something has, also of the parts of a model."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{inner}", found) for inner, found in _depths(value))
        elif LAYERS.fullmatch(key) and type(value) is int:
            yield key, value
