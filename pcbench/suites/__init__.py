"""Suite files: what to measure, as TOML; presets and `--set` paths merge over them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pcbench.errors import ConfigError, shown
from pcbench.registry import KINDS, load
from pcbench.suites.files import (
    Change,
    Source,
    Suite,
    known,
    read_suite,
    set_settings,
    suite_names,
    suite_summaries,
    suite_text,
)
from pcbench.types import DeviceKind

__all__ = [
    "Change",
    "Source",
    "Suite",
    "known",
    "load_kind",
    "load_suite",
    "read_suite",
    "set_settings",
    "suite_names",
    "suite_summaries",
    "suite_text",
]


def load_suite(
    name: str,
    device: DeviceKind,
    *,
    preset: str | None = None,
    sets: Sequence[str] = (),
    model: str | None = None,
    methods: Sequence[str] = (),
    tasks: Sequence[str] = (),
) -> Suite:
    """A suite by name or file, merged for a device, as its kind of measurement reads it.

    Args:
        name: a bundled suite's name or the path of a .toml file.
        device: chooses `[device.cpu]` or `[device.gpu]`.
        preset: a `[preset.NAME]` of the file.
        sets: `path=value` strings: suite.KEY, device.cpu.KEY, data.dir and the kind's own, as workload.NAME.KEY,
            cell.METHOD.KEY or kernel.OP.KEY.
        model: overrides the suite's model; a suite of kernels has none.
        methods: keeps only the cells of these methods, of a suite of kernels only these ops; a method without a cell
            gets one with its defaults.
        tasks: in place of those of a suite whose kind takes tasks.

    Raises:
        ConfigError: anything unknown or impossible, by key path.
        DataMissing: `name` is a path and there is no such file.
    """
    source = replace(read_suite(name, device, preset, sets), tasks=tasks)
    kind = load_kind(source.document["suite"].get("kind"), source.where)
    if tasks and not kind.takes_tasks:
        said = source.document["suite"]["kind"]
        raise ConfigError(
            f"--task: a suite of accuracy, got {source.where} of kind {said}; take another or leave it out"
        )
    suite: Suite = kind.read(source, model, methods)
    return suite


def load_kind(name: object, where: str) -> Any:
    """The class of a kind of measurement, which is a `pcbench.harness.kinds.Kind`.

    Raises:
        ConfigError: there is none of this name.
    """
    if not isinstance(name, str):
        raise ConfigError(f"{where}: suite.kind: one of {', '.join(KINDS)}, got {shown(name)}; add it")
    return load(KINDS, "kind of measurement", name, f"{where}: suite.kind")
