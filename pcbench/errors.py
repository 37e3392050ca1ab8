"""Every error a user can cause, and what the command line makes of it.

    PcbenchError
    ├── ConfigError                     a file, flag or argument says something impossible
    │   └── BadData                     an official file is there and is not what its task reads
    │       └── BadRecord               one record of it; the others may be good
    ├── ShapeError (ValueError)         a tensor has the wrong shape, dtype or layout
    ├── BackendUnavailable (RuntimeError)   this machine or build cannot run what was asked
    ├── DataMissing (FileNotFoundError)     a model or a data file is not there
    ├── DiskFull                        no room to write down what was measured
    ├── NotFinite                       a model's numbers hold NaN or infinity
    ├── FolderLost                      a run's folder has gone, or takes no more files, while it runs
    ├── OutputLost                      stdout takes no more of what is printed
    │   └── ReaderGone                  as when `head` has read enough
    ├── ParityError                     a kernel disagrees with the reference
    ├── EngineError                     a serving engine does not answer as it should
    │   └── EngineSlow                  or not in time
    ├── RankLost                        another process of a torchrun ended; what was finished is on the disk
    └── Interrupted                     Ctrl-C; what was finished is on the disk

A message reads `<where>: <expected>, got <actual>; <what to do>` and has no final period.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

__all__ = [
    "BackendUnavailable",
    "BadData",
    "BadRecord",
    "ConfigError",
    "DataMissing",
    "DiskFull",
    "EngineError",
    "EngineSlow",
    "FolderLost",
    "Interrupted",
    "NotFinite",
    "OutputLost",
    "ParityError",
    "PcbenchError",
    "RankLost",
    "ReaderGone",
    "ShapeError",
    "shown",
    "unknown_name",
]


class PcbenchError(Exception):
    """Base of all errors that are reported in one line."""


class ConfigError(PcbenchError):
    """A suite, flag or argument says something that cannot be run."""


class BadData(ConfigError):
    """An official file is on this machine and is not what its task reads."""


class BadRecord(BadData):
    """One record of an official file is not what its task reads; the others may be."""


class ShapeError(PcbenchError, ValueError):
    """A tensor has the wrong shape, dtype or layout."""


class BackendUnavailable(PcbenchError, RuntimeError):
    """A backend or device was asked for that cannot run here.

    Args:
        message: what was asked for, what is there and what to do.
        reasons: backend → why it cannot run, for every backend that was considered.
    """

    def __init__(self, message: str, reasons: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.reasons = dict(reasons or {})


class DataMissing(PcbenchError, FileNotFoundError):
    """A model or a data file is not on this machine; the message says how to get it."""


class DiskFull(PcbenchError):
    """A file could not be written for want of room; what stood in it before still does."""


class NotFinite(PcbenchError):
    """Logits, or what a model ranks chunks by, hold NaN or infinity; the message names the first layer that does."""


class FolderLost(PcbenchError):
    """The folder of a run has gone, or can no longer be written, before the run has ended."""


class OutputLost(PcbenchError):
    """What was printed did not arrive; what was written to files did."""


class ReaderGone(OutputLost):
    """Nobody reads what is printed any more, and nobody needs to be told."""


class ParityError(PcbenchError):
    """A result disagrees with the float64 reference by more than its bound."""


class EngineError(PcbenchError):
    """A serving engine is not there, or does not answer as it should."""


class EngineSlow(EngineError):
    """A serving engine has not answered in time."""


class RankLost(PcbenchError):
    """A process of a torchrun ended before the run did; the message holds how to go on."""


class Interrupted(PcbenchError):
    """A run was stopped by the user; the message holds the command that goes on with it."""


def shown(value: object, most: int = 80) -> str:
    """A value in a message: on one line, without control characters, no longer than `most` letters and a mark."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"


def unknown_name(where: str, what: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that is not among `known`, with the nearest one as a hint."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    named = name if len(name) <= 80 else f"{name[:80]}…"
    hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(names) or 'none'}"
    return ConfigError(f'{where}: unknown {what} "{named}"; {hint}')


def first_line(error: BaseException) -> str:
    """What an error says in one line; some say nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]
