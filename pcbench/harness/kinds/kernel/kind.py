"""Ops, by their times and rates, against the reference and stock code."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pcbench.harness.kinds import Estimate, Kind, Narrowed
from pcbench.harness.kinds.kernel.cells import PreparedKernel, prepare_kernels
from pcbench.harness.kinds.kernel.estimate import estimates, probes
from pcbench.harness.kinds.kernel.session import KernelSession
from pcbench.harness.kinds.kernel.settings import KernelSuite, kernel_suite
from pcbench.harness.kinds.kernel.sizes import check_kernels
from pcbench.suites import Source
from pcbench.types import DeviceKind

__all__ = ["Kernel"]


class Kernel(Kind):
    """Cells that are ops at a shape; a group is one op at one shape."""

    cells: list[PreparedKernel]

    def __init__(self, suite: KernelSuite, device: DeviceKind, limit: int | None) -> None:
        self.suite, self.cells = suite, prepare_kernels(suite, device, limit)
        check_kernels(suite.where, self.cells)

    @classmethod
    def read(cls, source: Source, model: str | None, methods: Sequence[str]) -> KernelSuite:
        return kernel_suite(source, model, methods)

    def session(self, folder: Path, shared: dict[str, Any]) -> KernelSession:
        return KernelSession(shared)

    def narrowed(self, prepared: PreparedKernel) -> Narrowed:
        numbers = prepared.shape.model_dump(exclude_none=True)
        if prepared.cell.dtype != self.suite.settings.dtype:
            numbers["dtype"] = prepared.cell.dtype
        shape = ", ".join(f"{key} = {json.dumps(value)}" for key, value in numbers.items())
        return Narrowed([f"kernel.{prepared.op}.shapes=[{{{shape}}}]"], [prepared.op])

    def estimates(self) -> Iterator[Estimate]:
        return estimates(self.cells, probes(self.cells))
