"""Presets: the paper's setting and those of the released runner, as layers of values in presets.toml."""

import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pcbench.types import ModelSpec

__all__ = ["Preset", "PresetValues", "preset_for"]

Preset = Literal["paper", "official-longbench", "official-infinitebench"]


@dataclass
class PresetValues:
    """What a preset says for one model and task.

    Args:
        official: it is the released runner's, whose chunk size belongs to the model.
        config: values of the config; evict, rule: values of its eviction and of each of its rules, where it has any.
    """

    official: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    evict: dict[str, Any] = field(default_factory=dict)
    rule: dict[str, Any] = field(default_factory=dict)


def preset_for(preset: str | None, spec: ModelSpec, task: str) -> PresetValues:
    """The layers of a preset that hold for a model and a task, the last of them on top."""
    values = PresetValues(official=preset is not None and preset.startswith("official-"))
    name, dataset = spec.name.lower(), task.rpartition("/")[2]
    for layer in _layers():
        holds = (
            preset in layer["presets"]
            and any(part in name for part in layer.get("models", ("",)))
            and dataset in layer.get("tasks", (dataset,))
            and spec.trained_tokens >= layer.get("trained_tokens", 0)
        )
        if holds:
            values.config |= layer.get("config", {})
            values.evict |= layer.get("evict", {})
            values.rule |= layer.get("rule", {})
    return values


@cache
def _layers() -> list[dict[str, Any]]:
    text = files("pcbench").joinpath("methods/parallel_comp/presets.toml").read_text(encoding="utf-8")
    layers: list[dict[str, Any]] = tomllib.loads(text)["layer"]
    return layers
