"""What groups of kernels share: the machine's ceilings."""

from dataclasses import dataclass, field
from typing import Any

import torch

from pcbench.harness.kinds import Measured, Say
from pcbench.harness.kinds.kernel.cells import PreparedKernel
from pcbench.harness.kinds.kernel.group import KernelGroup, KernelLane
from pcbench.harness.kinds.kernel.summary import summarise_kernels
from pcbench.measure.machine.ceilings import Ceilings, measure_ceilings
from pcbench.measure.machine.devices import torch_device
from pcbench.types import Status

__all__ = ["KernelSession"]


@dataclass
class KernelSession:
    """The fields all records share, and of each dtype the machine's ceilings once they are measured."""

    shared: dict[str, Any]
    ceilings: dict[str, Ceilings] = field(default_factory=dict)

    def fresh(self) -> "KernelSession":
        return self

    def measure(self, cells: list[PreparedKernel], repro: str, say: Say) -> Measured:
        """Measures one op at one shape."""
        cell = cells[0].cell
        if cell.dtype not in self.ceilings:
            say("matmul rate and copy bandwidth")
            self.ceilings[cell.dtype] = measure_ceilings(torch_device(cell.device), getattr(torch, cell.dtype))
        lanes = KernelGroup(cells, say).measure()
        return Measured(
            summarise_kernels(lanes, self.ceilings[cell.dtype], self.shared, repro),
            [],
            {lane.prepared.cell.key: lane.trace for lane in lanes if lane.trace},
        )

    def lost(self, cells: list[PreparedKernel], repro: str, status: Status, reason: str) -> Measured:
        """Every cell with this status."""
        lanes = [KernelLane(prepared) for prepared in cells]
        for lane in lanes:
            lane.end(status, reason)
        return Measured(summarise_kernels(lanes, None, self.shared, repro), [])
