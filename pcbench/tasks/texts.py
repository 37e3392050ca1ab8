"""Long texts as token ids: CPython's documentation, a file of text, or a file of ids."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pcbench.errors import BadData, ConfigError, DataMissing
from pcbench.plain_files import opened, read_text, sha256_of
from pcbench.tasks.synthetic import documentation
from pcbench.types import Tokenizer

__all__ = ["IdType", "Ids", "Text", "long_text"]

IdType = Literal["uint16", "uint32"]
Ids = np.ndarray[Any, np.dtype[Any]]

TEXT_BYTES = 1 << 28
# ids that are looked at together
PIECE = 1 << 24
VERSION_DIGITS = 12


def long_text(path: Path | None, option: str) -> str:
    """A text to read on and on.

    Args:
        path: a file of UTF-8; None takes CPython's documentation.
        option: by which another is named, for messages.

    Raises:
        ConfigError: the file cannot be read.
        DataMissing: it is not there, or this Python comes without its documentation.
    """
    if path is not None:
        return read_text(path, TEXT_BYTES, where=f"{option}: {path}")
    try:
        return "".join(documentation.lines())
    except DataMissing as error:
        raise DataMissing(f"{error}, or name a file of text by {option}") from None


@dataclass(frozen=True)
class Text:
    """A text whose loss can be taken.

    Args:
        where: of the file's name, for messages.
        path: None for CPython's documentation.
        dtype: of a file of nothing but ids, little-endian, as PG19 is stored for tests of perplexity; None for text.
        version: the first digits of the sha256 of what it held when the run was planned.
    """

    where: str
    path: Path | None
    dtype: IdType | None
    version: str

    @classmethod
    def of(cls, where: str, path: Path | None, dtype: IdType | None) -> "Text":
        """The text as it is now. Errors as of `long_text`."""
        return cls(where, path, dtype, _version(where, path))

    @property
    def name(self) -> str:
        return "documentation" if self.path is None else self.path.name

    def check(self, vocab: int, model: str) -> None:
        """Looks at a file of ids, of which none says what it holds.

        Args:
            vocab: ids of the model; model: its name.

        Raises:
            ConfigError: it holds no whole ids, ids beyond the vocabulary, or ids of the other width.
        """
        if self.path is None or self.dtype is None:
            return
        where, width = f"{self.where}: {self.path}", np.dtype(self.dtype).itemsize
        with opened(self.path, where) as file:
            size = os.fstat(file.fileno()).st_size
        if not size or size % width:
            raise ConfigError(
                f"{where}: ids of {width} bytes each ({self.dtype}), got {size:,} bytes; look at how it was written"
            )
        largest = _largest(self.path, self.dtype)
        if largest >= vocab:
            raise ConfigError(
                f"{where}: ids below {vocab:,}, the vocabulary of {model}, got {largest:,} as {self.dtype}; "
                "name the type it was written as, or take ids of the model's own tokenizer"
            )
        # every second id of such a file, read so, is the upper half of an id
        if self.dtype == "uint16" and size % 4 == 0 and _largest(self.path, "uint32") < vocab:
            raise ConfigError(
                f'{where}: ids of uint16, got a file that holds ids as uint32, too; set suite.token_dtype = "uint32"'
            )

    def ids(self, tokenizer: Tokenizer) -> Ids:
        """Every id of the text, without what a tokenizer puts in front.

        Raises:
            BadData: the file is not what it was when the run was planned.
            Others: those of `long_text`.
        """
        now = _version(self.where, self.path)
        if now != self.version:
            raise BadData(
                f"{self.where}: {self.path or self.name} as it was when the run began ({self.version}), got another "
                f"({now}); measure again from the start"
            )
        if self.path is not None and self.dtype is not None:
            return _stored(self.path, self.dtype)
        return np.asarray(tokenizer.encode(long_text(self.path, self.where)))


def _version(where: str, path: Path | None) -> str:
    if path is not None:
        return sha256_of(path, where=f"{where}: {path}")[:VERSION_DIGITS]
    long_text(None, where)
    return documentation.version()


def _stored(path: Path, dtype: IdType) -> Ids:
    return np.memmap(path, np.dtype(dtype).newbyteorder("<"), mode="r")


def _largest(path: Path, dtype: IdType) -> int:
    ids = _stored(path, dtype)
    return max(int(ids[i : i + PIECE].max()) for i in range(0, len(ids), PIECE))
