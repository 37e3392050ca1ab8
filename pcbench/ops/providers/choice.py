"""Which attention is the fastest: of measured times, kept in a file."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

from pcbench.errors import ConfigError, DataMissing, PcbenchError
from pcbench.json_text import parse_json
from pcbench.plain_files import read_text, write_whole
from pcbench.system.surroundings import cache_folder

__all__ = ["OWN", "Case", "Times", "TimesFile", "fastest", "nearest", "times_file"]

OWN = "own"
# by how much another must be faster than our own kernel: below that a few calls do not tell
MARGIN = 1.02
FILE_BYTES = 1 << 22
SCHEMA = 1


@dataclass(frozen=True)
class Case:
    """What decides how fast attentions of chunks are beside each other.

    Args:
        gpu: its name.
        torch: its version.
        code: our own kernels and the libraries, as of `pcbench.ops.providers.versions`.
        dtype, dim, heads, kv_heads: of the call.
        batch, rows: classes, the next powers of two.
        mass_rows: of the call.
        ragged: it has lengths.
    """

    gpu: str
    torch: str
    code: str
    dtype: str
    dim: int
    heads: int
    kv_heads: int
    batch: int
    rows: int
    mass_rows: int
    ragged: bool

    @classmethod
    def of(cls, shape: tuple[int, ...], kv_heads: int, **rest: Any) -> Self:
        """The case of a call with q of `shape` [B, H, T, D]."""
        batch, heads, rows, dim = shape
        return cls(dim=dim, heads=heads, kv_heads=kv_heads, batch=size_class(batch), rows=size_class(rows), **rest)

    @property
    def key(self) -> str:
        """As the file names it."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)


def size_class(size: int) -> int:
    """The next power of two, `size` itself where it is one."""
    return 1 << (size - 1).bit_length()


@dataclass(frozen=True)
class Times:
    """What was measured of a case.

    Args:
        ms: name → milliseconds of a call.
        refused: name → why it has no time.
    """

    ms: dict[str, float]
    refused: dict[str, str]

    def covers(self, names: tuple[str, ...]) -> bool:
        """Whether all of these were tried, and no others."""
        return {*self.ms, *self.refused} == set(names)


def fastest(ms: Mapping[str, float]) -> str:
    """The name with the least time; our own kernel where no other is faster by more than `MARGIN`."""
    best = min(ms, key=lambda name: ms[name], default=OWN)
    return best if OWN not in ms or ms[best] * MARGIN < ms[OWN] else OWN


def nearest(case: Case, known: Mapping[Case, Times]) -> dict[str, float]:
    """Times of the known case that differs least in rows, then in batch; none where none is alike."""
    alike = [other for other in known if replace(other, rows=case.rows, batch=case.batch) == case]
    off = {o: (abs(math.log2(o.rows / case.rows)), abs(math.log2(o.batch / case.batch))) for o in alike}
    return known[min(alike, key=lambda other: off[other])].ms if alike else {}


class TimesFile:
    """Times of cases in a file of JSON, which is read once and written whole.

    Args:
        path: the file; what it lacks, or all where it is broken, is measured again.
        warnings: why it could not be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.warnings = path, list[str]()
        self.cases = self._read()

    def get(self, case: Case) -> Times | None:
        """What was measured of a case; None where nothing was."""
        return self.cases.get(case.key)

    def put(self, case: Case, times: Times) -> None:
        """Keeps what was measured, with what other processes have kept since."""
        self.cases = {**self._read(), **self.cases, case.key: times}
        kept = {"schema": SCHEMA, "cases": {key: asdict(times) for key, times in self.cases.items()}}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
        except (OSError, PcbenchError) as error:
            self._warn(f"{self.path}: times of attention cannot be kept ({error}); every process measures them")

    def _read(self) -> dict[str, Times]:
        try:
            return _parsed(read_text(self.path, FILE_BYTES), str(self.path))
        except DataMissing:
            return {}
        except PcbenchError as error:
            self._warn(f"{error}; times of attention are measured again")
            return {}

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


@cache
def times_file() -> TimesFile:
    """This process's, `pcbench/attention/times.json` in the cache folder."""
    return TimesFile(cache_folder("attention") / "times.json")


def _parsed(text: str, where: str) -> dict[str, Times]:
    """Raises ConfigError where the text is not what `put` writes."""
    try:
        read = parse_json(text, where)
        if read["schema"] != SCHEMA:
            raise ValueError(f"schema {read['schema']!r}")
        return {key: _times(**entry) for key, entry in read["cases"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: times that pcbench wrote, got something else ({error})") from None


def _times(ms: dict[str, float], refused: dict[str, str]) -> Times:
    if not all(isinstance(x, float) and x > 0 for x in ms.values()):
        raise ValueError("a time that is none")
    if not all(isinstance(why, str) for why in refused.values()):
        raise ValueError("a reason that is none")
    return Times(ms, refused)
