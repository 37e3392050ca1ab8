"""Entropy tables: what `pcbench calibrate` found of a model, in a file of numbers and one that says whose they are."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from pcbench.config import Count, Table, validate
from pcbench.errors import ConfigError, DataMissing
from pcbench.json_text import parse_json
from pcbench.plain_files import read_bytes, read_text, write_whole
from pcbench.system.surroundings import cache_folder, expanded
from pcbench.types import ModelSpec

__all__ = [
    "KS",
    "About",
    "EntropyTable",
    "Matrix",
    "check_place",
    "default_path",
    "find_table",
    "last_part",
    "read_table",
]

Matrix = Literal["queries", "keys", "hidden"]
# eigenvalues that count, beside all of them
KS = (16, 32, 64, 128)
AGAIN = "calibrate again"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# of the deepest and widest models, and of a description
NUMBERS_BYTES, ABOUT_BYTES = 1 << 28, 1 << 20


class About(Table):
    """Whose numbers a table holds, and of what.

    Args:
        model: as it was named.
        names: last parts of the names that the model goes by.
        config_sha256: of its numbers, as in `ModelSpec`.
        matrix: whose entropy: queries or keys after rotary embedding, or what a layer reads.
        k: eigenvalues that count, of each row of entropies; the last one is all.
        texts_sha256: of the texts.
        tokens: of a sample.
        samples: their number.
        pcbench: the version that made it.
        numbers_sha256: of the file of numbers.
    """

    model: str
    names: list[str]
    config_sha256: Digest
    matrix: Matrix
    k: list[Count]
    texts_sha256: Digest
    tokens: Count
    samples: Count
    pcbench: str
    numbers_sha256: str = ""


@dataclass(frozen=True, eq=False)
class EntropyTable:
    """Means over samples.

    Args:
        about: whose they are.
        entropy: [K, L, H] float64, `truncated_entropy` of each k, layer and query head; kv-heads for keys, one row
            for hidden states.
        renormalised: the same with eigenvalues that sum to 1.
        curve: [L] float64, `effective_rank` of each layer, the mean over its heads.
    """

    about: About
    entropy: Tensor
    renormalised: Tensor
    curve: Tensor

    def of_heads(self, k: int, renormalise: bool) -> Tensor:
        """[L, H] of a k; one beyond the size of a head counts all of it.

        Raises:
            ConfigError: the table is of no heads, or of other k.
        """
        if self.about.matrix == "hidden":
            raise ConfigError(
                f"table: entropies of heads, got those of hidden states of {self.about.model}; "
                "calibrate with --matrix queries or keys"
            )
        if k not in self.about.k:
            raise ConfigError(f"table: entropies at k = {k}, got {self.about.k}; {AGAIN}")
        return (self.renormalised if renormalise else self.entropy)[self.about.k.index(k)]

    def write(self, path: Path) -> Path:
        """Writes PATH.safetensors and PATH.json, with or without one of the endings in `path`.

        Returns:
            The file of numbers.

        Raises:
            ConfigError: something that is no plain file stands there; DiskFull: there is no room.
        """
        numbers = save({"entropy": self.entropy, "renormalised": self.renormalised, "curve": self.curve})
        about = self.about.model_copy(update={"numbers_sha256": hashlib.sha256(numbers).hexdigest()})
        path = _of_numbers(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, numbers)
            write_whole(path.with_suffix(".json"), json.dumps(about.model_dump(), indent=1) + "\n")
        except OSError as error:
            got = error.strerror or str(error)
            raise ConfigError(f"--out: a file that can be written, got {path}: {got}; choose another") from error
        return path


def last_part(name: str) -> str:
    """What stays of a model's name wherever its files lie: its folder's, or its id without the owner."""
    return os.path.basename(os.path.normpath(name))


def default_path(spec: ModelSpec, matrix: str) -> Path:
    """Where a model's table lies when nobody says otherwise: `calibration` in the folder of pcbench's cache."""
    name = re.sub(r"[^\w.+-]", "_", last_part(spec.name))[:80]
    return cache_folder("calibration") / f"{name}-{matrix}-{spec.config_sha256[:16]}.safetensors"


def find_table(spec: ModelSpec, matrix: Matrix, named: str | None) -> EntropyTable:
    """A model's table.

    Args:
        spec: the model.
        matrix: of what.
        named: a path, .safetensors or .json; None looks where `pcbench calibrate` writes.

    Raises:
        DataMissing: there is none; the message holds the command that makes it.
        ConfigError: it is another model's, or no table.
    """
    if named is not None:
        table = read_table(expanded(named, "table"))
        _check_model(table.about, spec, named)
        if table.about.matrix != matrix:
            raise ConfigError(f"table: entropies of {matrix}, got those of {table.about.matrix} in {named}; {AGAIN}")
        return table
    for path in _candidates(spec, matrix):
        if last_part(spec.name) in _about(path).names:
            return read_table(path)
    how = "" if matrix == "queries" else f" --matrix {matrix}"
    raise DataMissing(
        f"table: entropies of the {matrix} of {spec.name}, got none in {cache_folder('calibration')}; "
        f"pcbench calibrate --model {spec.name}{how}"
    )


def read_table(path: Path) -> EntropyTable:
    """A table by one of its two files.

    Raises:
        DataMissing: a file is not there.
        ConfigError: it is no table.
    """
    path = _of_numbers(path)
    about = _about(path)
    data = read_bytes(path, NUMBERS_BYTES, remedy=AGAIN)
    if hashlib.sha256(data).hexdigest() != about.numbers_sha256:
        raise ConfigError(f"{path}: the numbers that {path.stem}.json describes, got others; {AGAIN}")
    try:
        held = load(data)
    except SafetensorError as error:
        raise ConfigError(f"{path}: safetensors, got {error}; {AGAIN}") from None
    _check_numbers(path, held, about)
    return EntropyTable(about, held["entropy"], held["renormalised"], held["curve"])


def check_place(path: Path, *, force: bool = False) -> None:
    """Refuses, before anything is measured, a place where a table cannot be written; makes its folder.

    Args:
        path: of the table; force: whether it may replace one that is there.

    Raises:
        ConfigError: the folder cannot be had or written, or something that is no plain file, or a table, stands there.
    """
    numbers = _of_numbers(path)
    try:
        numbers.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out: a file in a folder, got {path}: {error.strerror}; choose another") from None
    if not os.access(numbers.parent, os.W_OK):
        raise ConfigError(f"--out: a folder that can be written, got {numbers.parent}; choose another")
    for file in (numbers, numbers.with_suffix(".json")):
        if os.path.lexists(file) and not file.is_file():
            raise ConfigError(f"--out: a plain file or a new name, got {file}; choose another")
        if os.path.lexists(file) and not force:
            raise ConfigError(f"--out: a new file, got {file}, which is there; add --force or choose another")


def _of_numbers(path: Path) -> Path:
    """The file of numbers by either file's name, or by what both begin with."""
    if not path.name:
        raise ConfigError(f"table: a file, got {path}; name one")
    stem = path.with_suffix("") if path.suffix in (".safetensors", ".json") else path
    return stem.with_name(f"{stem.name}.safetensors")


def _about(path: Path) -> About:
    path = path.with_suffix(".json")
    table = parse_json(read_text(path, ABOUT_BYTES, remedy=AGAIN), str(path), remedy=AGAIN)
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: a JSON object, got {type(table).__name__}; {AGAIN}")
    return validate(About, table, str(path), AGAIN)


def _check_numbers(path: Path, held: dict[str, Tensor], about: About) -> None:
    wanted = {"entropy", "renormalised", "curve"}
    whole = (
        held.keys() == wanted
        and all(x.dtype == torch.float64 and bool(x.isfinite().all()) for x in held.values())
        and held["entropy"].dim() == 3
        and held["renormalised"].shape == held["entropy"].shape == (len(about.k), *held["entropy"].shape[1:])
        and held["curve"].shape == held["entropy"].shape[1:2]
    )
    if not whole:
        got = {name: list(x.shape) for name, x in held.items()}
        raise ConfigError(f"{path}: finite float64 {', '.join(sorted(wanted))}, got {got}; {AGAIN}")


def _check_model(about: About, spec: ModelSpec, where: str) -> None:
    """Refuses a table of another model, by its name or its numbers."""
    if about.config_sha256 == spec.config_sha256 and last_part(spec.name) in about.names:
        return
    other = " of other numbers" if about.model == spec.name else ""
    raise ConfigError(
        f"table: entropies of {spec.name}, got those of {about.model}{other} in {where}; "
        f"pcbench calibrate --model {spec.name}"
    )


def _candidates(spec: ModelSpec, matrix: Matrix) -> Iterator[Path]:
    """Tables of models with the same numbers."""
    yield from sorted(cache_folder("calibration").glob(f"*-{matrix}-{spec.config_sha256[:16]}.json"))
