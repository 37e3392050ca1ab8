"""What variables of the environment and the working folder say, checked: one line where it makes no sense."""

import os
import re
from contextlib import suppress
from pathlib import Path

from pcbench.errors import ConfigError

__all__ = ["cache_folder", "check_working_folder", "expanded", "whole_number"]

# of a count of processes, or a port
LARGEST = 10**6
TORCHRUN = "torchrun sets it, without torchrun unset it"


def whole_number(name: str, default: int, *, least: int = 0, most: int = LARGEST, remedy: str = TORCHRUN) -> int:
    """The number that a variable holds; the default where it is not set; `remedy` ends the message.

    Raises:
        ConfigError: it holds something else, or a number outside `least`..`most`.
    """
    text = os.environ.get(name)
    if text is None:
        return default
    if not re.fullmatch("[0-9]{1,9}", text.strip()) or not least <= int(text) <= most:
        raise ConfigError(f"{name}: a whole number in {least}..{most}, got {text!r}; {remedy}")
    return int(text)


def cache_folder(name: str) -> Path:
    """`pcbench/NAME` below XDG_CACHE_HOME, which counts where it is absolute, else below ~/.cache.

    Raises:
        ConfigError: neither is there.
    """
    named = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(named) if os.path.isabs(named) else expanded("~", "HOME") / ".cache"
    return root / "pcbench" / name


def expanded(folder: str | Path, where: str) -> Path:
    """An absolute path without `~` and links.

    Args:
        folder: as a person writes it.
        where: the variable or option that names it, for the message.

    Raises:
        ConfigError: nobody's home is meant, or the path cannot be one.
    """
    try:
        path = Path(folder).expanduser().resolve()
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            path.stat()
    except RuntimeError:
        got = f"{str(folder)!r}, whose home folder is unknown"
        raise ConfigError(f"{where}: a folder, got {got}; set HOME, or name the folder in full") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{where}: a folder, got {str(folder)!r}: {why}; name another") from None
    return path


def check_working_folder() -> None:
    """Refuses to work where nothing is any more.

    Raises:
        ConfigError: the working folder was removed.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise ConfigError(
            f"pcbench: a working folder, got one that was removed ({error.strerror}); cd to another"
        ) from None
