"""Suite files: what to measure, as TOML; presets and `--set` paths merge over them."""

from collections.abc import Sequence

from pcbench.errors import ConfigError
from pcbench.suites.accuracy import AccuracySettings, accuracy_suite
from pcbench.suites.files import read_suite, suite_names, suite_summaries
from pcbench.suites.kernels import KernelPlan, KernelSuite, kernel_suite
from pcbench.suites.prefill import CellTable, Plan, Suite, Workload, prefill_suite
from pcbench.types import DeviceKind

__all__ = [
    "AccuracySettings",
    "CellTable",
    "KernelPlan",
    "KernelSuite",
    "Plan",
    "Suite",
    "Workload",
    "load_suite",
    "suite_names",
    "suite_summaries",
]


def load_suite(
    name: str,
    device: DeviceKind,
    *,
    preset: str | None = None,
    sets: Sequence[str] = (),
    model: str | None = None,
    methods: Sequence[str] = (),
) -> Suite | KernelSuite:
    """A suite by name or file, merged for a device.

    Args:
        name: a bundled suite's name or the path of a .toml file.
        device: chooses `[device.cpu]` or `[device.gpu]`.
        preset: a `[preset.NAME]` of the file.
        sets: `path=value` strings: suite.KEY, device.cpu.KEY, workload.NAME.KEY, cell.METHOD.KEY, kernel.OP.KEY,
            data.dir.
        model: overrides the suite's model; a suite of kernels has none.
        methods: keeps only the cells of these methods, of a suite of kernels only these ops; a method without a cell
            gets one with its defaults.

    Raises:
        ConfigError: anything unknown or impossible, by key path.
        DataMissing: `name` is a path and there is no such file.
    """
    source = read_suite(name, device, preset, sets)
    kind = source.document["suite"].get("kind")
    if kind == "accuracy":
        return accuracy_suite(source, model, methods)
    if kind != "kernel":
        return prefill_suite(source, model, methods)
    if model is not None:
        raise ConfigError(f"{source.where}: no --model, got {model}; its kernels run without one, leave it out")
    return kernel_suite(source, methods)
