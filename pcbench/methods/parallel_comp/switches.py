"""The released runner's options and what they are here, from switches.toml."""

import tomllib
from importlib.resources import files
from typing import Any

from pydantic import Field

from pcbench.config import Table

__all__ = ["Switch", "switch_rows", "switches"]


class Switch(Table):
    """One option with a value; it has a config, a place elsewhere, both, or a reason why not.

    Args:
        option: as it is given there.
        config: the keys of our config that say the same; None where none does.
        elsewhere: where in pcbench it is said instead.
        why_not: why nothing here says it.
        note: where the two differ.
    """

    option: str
    config: dict[str, Any] | None = None
    elsewhere: str = ""
    why_not: str = ""
    note: str = Field(default="")

    @property
    def ours(self) -> str:
        """As a table shows it."""
        parts = [f"`{_toml(self.config)}`"] if self.config else ["nothing to set"] if self.config is not None else []
        parts += [self.elsewhere] if self.elsewhere else []
        parts += [f"not here: {self.why_not}"] if self.why_not else []
        return "; ".join(parts) + (f" ({self.note})" if self.note else "")


def switches() -> list[Switch]:
    """All of them, in the order of the file."""
    text = files("pcbench").joinpath("methods/parallel_comp/switches.toml").read_text(encoding="utf-8")
    return [Switch(**table) for table in tomllib.loads(text)["switch"]]


def switch_rows() -> dict[str, str]:
    """Option → what it is here, for the table in docs/parallel_comp.md."""
    return {switch.option: switch.ours for switch in switches()}


def _toml(value: Any, top: bool = True) -> str:
    """`keep = 3, evict = { capacity = 512 }`"""
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_toml(item, False)}" for key, item in value.items())
        return inner if top else f"{{ {inner} }}"
    if isinstance(value, list):
        return f"[{', '.join(_toml(item, False) for item in value)}]"
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
