"""Plans of a suite of kernels → cells whose shape and backend are settled."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pcbench.config import validate
from pcbench.harness.kinds.cells import titled
from pcbench.harness.kinds.kernel.settings import KernelPlan, KernelSuite
from pcbench.measure.kernels.baselines import VARIANTS, check_baseline
from pcbench.measure.kernels.shapes import SHAPES, Shape
from pcbench.ops import compiled_backend
from pcbench.types import Cell, DeviceKind

__all__ = ["PreparedKernel", "prepare_kernels"]


@dataclass(frozen=True)
class PreparedKernel:
    """A cell with the op and the shape that it measures; the cell's method is the op or a baseline.

    Args:
        cell: what becomes a record.
        op: the group's op.
        shape: the group's shape.
        changes: arguments in which the cell's own call of the op differs from the group's.
    """

    cell: Cell
    op: str
    shape: Shape
    changes: dict[str, Any] = field(default_factory=dict)


def prepare_kernels(suite: KernelSuite, device: DeviceKind, limit: int | None = None) -> list[PreparedKernel]:
    """Every cell of a suite, in the order of measurement.

    Args:
        suite: the merged suite.
        device: whose compiled backend is measured.
        limit: rounds per cell at most.

    Raises:
        ConfigError: a shape or a baseline is wrong, by key path.
    """
    kernels = [kernel for plan in suite.plans() for kernel in _group(suite, plan, device, limit)]
    return titled(suite.where, kernels)


def _group(suite: KernelSuite, plan: KernelPlan, device: DeviceKind, limit: int | None) -> Iterator[PreparedKernel]:
    """The op on its compiled backend, by the reference, and its baselines."""
    settings = suite.settings
    shape = validate(SHAPES[plan.op], plan.shape, plan.where)
    compiled = compiled_backend(device)
    sides: list[tuple[str, str, dict[str, Any]]] = [(plan.op, compiled, {})]
    most = settings.reference_up_to_gflop
    if most is None or shape.work(1).flops <= most * 1e9:
        sides.append((plan.op, "reference", {}))
    for name in plan.baselines:
        check_baseline(plan.op, name, f"{plan.where.rpartition('.shapes')[0]}.baselines")
        changes = VARIANTS.get(plan.op, {}).get(name)
        if changes is None:
            sides.append((name, "torch", {}))
        elif any(getattr(shape, key) != value for key, value in changes.items()):
            sides.append((name, compiled, changes))
    rounds = min(settings.rounds, limit) if limit else settings.rounds
    for method, backend, changes in sides:
        cell = Cell(
            suite=suite.name,
            kind=settings.kind,
            model="",
            method=method,
            method_config={},
            backend=backend,
            device=device,
            dtype=plan.dtype,
            workload=f"{plan.op} {shape}",
            context_tokens=None,
            seed=settings.seed,
            task="",
            repeats=rounds,
            timed=True,
            prompts=rounds,
        )
        yield PreparedKernel(cell, plan.op, shape, changes)
