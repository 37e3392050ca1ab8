"""Suites of kernels: ops × shapes, each against its baselines."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from pcbench.config import Dtype, Repeats, Seconds, Seed, Table, every_key_optional, validate
from pcbench.errors import ConfigError, shown, unknown_name
from pcbench.registry import op_summaries
from pcbench.suites.files import Change, Source, Suite, known, set_settings

__all__ = ["KernelPlan", "KernelSuite", "kernel_suite"]


class KernelSettings(Table):
    """`[suite]` with the device's table merged over it."""

    kind: str
    dtype: Dtype
    grid: str
    seed: Seed = 0
    rounds: Repeats = 20
    reference_up_to_gflop: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    timeout_s: Seconds | None = None


class Grid(Table):
    """`[kernel.grid.NAME]`: shapes, in which a list stands for each of its values, and the baselines they meet.

    A shape may have a `dtype` of its own in place of the suite's.
    """

    shapes: Annotated[list[dict[str, Any]], Field(min_length=1)]
    baselines: list[str] = Field(default_factory=list)


class KernelTable(Table):
    """`[[kernel]]`: an op and its grids; the device chooses one."""

    op: str
    grid: Annotated[dict[str, Grid], Field(min_length=1)]


Partial = every_key_optional(KernelSettings, without=("kind",))


class KernelFile(Table):
    """The top level of a suite file; `[suite]` itself is checked after merging."""

    suite: dict[str, Any]
    device: dict[Literal["cpu", "gpu"], Partial] = Field(default_factory=dict)  # type: ignore[valid-type]
    kernel: Annotated[list[KernelTable], Field(min_length=1)]
    preset: dict[str, dict[str, Any]] = Field(default_factory=dict)


@dataclass(frozen=True)
class KernelPlan:
    """One op at one shape, before the op's shape class has seen it; `where` is its place in the file."""

    where: str
    op: str
    shape: dict[str, Any]
    dtype: Dtype
    baselines: list[str]


@dataclass(frozen=True)
class KernelSuite(Suite):
    """A suite of kernels with everything merged over it."""

    kernels: list[KernelPlan]

    def plans(self) -> Iterator[KernelPlan]:
        """Groups in the order they are measured: as the file lists them."""
        yield from self.kernels


def kernel_suite(source: Source, model: str | None, ops: Sequence[str]) -> KernelSuite:
    """The suite of a file whose cells are ops.

    Args:
        source: the file and what changes it: suite.KEY, device.cpu.KEY, kernel.OP.shapes, kernel.OP.baselines, and
            kernel.OP.KEY for a number in all shapes of the op.
        model: None; kernels run without one.
        ops: keeps only these.

    Raises:
        ConfigError: anything unknown or impossible, by key path.
    """
    if model is not None:
        raise ConfigError(f"{source.where}: no --model, got {model}; its kernels run without one, leave it out")
    file = validate(KernelFile, source.document, source.where)
    if source.data_dir is not None:
        raise ConfigError(
            f"{source.where}: no --set data.dir, got {source.data_dir}; kernels read no files, leave it out"
        )
    for i, table in enumerate(file.kernel):
        if table.op not in op_summaries():
            raise unknown_name(f"{source.where}: kernel[{i}].op", "op", table.op, op_summaries())
    settings, later = source.settings(), []
    for change in source.changes(("kernel",)):
        if not set_settings(source, settings, change, KernelSettings.model_fields):
            later.append(change)
    checked = validate(KernelSettings, settings, f"{source.where}: suite")
    grids = _chosen(source, file, checked.grid)
    for change in later:
        _change(source, grids, change)
    kept = [op for op in grids if not ops or op in ops]
    for op in ops:
        if op not in grids:
            raise unknown_name(f"{source.where}: --method", "op of the suite", op, grids)
    kernels = [plan for op in kept for plan in _plans(op, grids[op], checked.dtype)]
    return KernelSuite(source.name, source.where, checked, None, kernels)


def _chosen(source: Source, file: KernelFile, name: str) -> dict[str, dict[str, Any]]:
    """Op → its grid of this name as a plain table; ops without one are left out."""
    names = {n for table in file.kernel for n in table.grid}
    if name not in names:
        raise unknown_name(f"{source.where}: suite.grid", "grid", name, names)
    grids: dict[str, dict[str, Any]] = {}
    for i, table in enumerate(file.kernel):
        if table.op in grids:
            raise ConfigError(f"{source.where}: kernel[{i}].op: every op once, got {table.op} twice; join their grids")
        if name in table.grid:
            grids[table.op] = table.grid[name].model_dump() | {"where": f"{source.where}: kernel[{i}].grid.{name}"}
    return grids


def _change(source: Source, grids: dict[str, dict[str, Any]], change: Change) -> None:
    head, *rest = change.path.split(".")
    known(source, change, head, ("suite", "device", "kernel"))
    if head != "kernel" or len(rest) != 2:
        raise ConfigError(
            f"{source.where}: {change.source}: suite.KEY, device.cpu.KEY or kernel.OP.KEY, "
            f'got "{change.path}"; give the whole path'
        )
    op, key = rest
    known(source, change, op, grids)
    if key in Grid.model_fields:
        grid = {name: grids[op][name] for name in Grid.model_fields} | {key: change.value}
        grids[op] |= validate(Grid, grid, grids[op]["where"]).model_dump()
        return
    # a number of the op's shapes: checked by their class
    grids[op]["shapes"] = [shape | {key: change.value} for shape in grids[op]["shapes"]]


def _plans(op: str, table: dict[str, Any], dtype: Dtype) -> Iterator[KernelPlan]:
    for i, shape in enumerate(table["shapes"]):
        values = [value if isinstance(value, list) else [value] for value in shape.values()]
        for numbers in product(*values):
            where = f"{table['where']}.shapes[{i}]"
            found = {"dtype": dtype} | dict(zip(shape, numbers, strict=True))
            own = found.pop("dtype")
            if own not in get_args(Dtype):
                names = ", ".join(get_args(Dtype))
                raise ConfigError(f"{where}.dtype: {names}, got {shown(own)}; name one of them")
            yield KernelPlan(where, op, found, own, table["baselines"])
