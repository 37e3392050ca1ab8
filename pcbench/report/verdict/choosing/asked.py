"""What is asked when a method is to be chosen."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pcbench.errors import ConfigError, shown, unknown_name

__all__ = ["Asked", "amount", "check_model", "read_memory"]

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
MEMORY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?([KMGT]i?B)", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """What a method has to meet.

    Args:
        memory: bytes that must hold it; None only says what each one takes.
        context: tokens of the whole prompt with its answer; None is the longest length at which most methods were
            measured.
        model: whose records are looked at; None those of every model.
    """

    memory: int | None = None
    context: int | None = None
    model: str | None = None


def read_memory(text: str) -> int:
    """Bytes of `24GiB`, `1.5 TB` or `512MiB`.

    Raises:
        ConfigError: no such size.
    """
    match = MEMORY.fullmatch(text.strip())
    size = int(float(match[1]) * UNITS[match[2].upper()]) if match else 0
    if size < 1:
        raise ConfigError(f"--memory: a size with its unit, as 24GiB or 80GB, got {shown(text)}; write it so")
    return size


def check_model(name: str, known: Iterable[str]) -> None:
    """Raises ConfigError unless the records have this model."""
    if name not in (there := set(known)):
        raise unknown_name("--model", "model of the records", name, there)


def amount(size: int) -> str:
    """Bytes as `18.2 GiB` or `612 MiB`."""
    for unit, name in ((2**40, "TiB"), (2**30, "GiB")):
        if size >= unit:
            return f"{size / unit:,.{1 if size < 100 * unit else 0}f} {name}"
    return f"{size / 2**20:,.{0 if size >= 10 * 2**20 else 1}f} MiB"
