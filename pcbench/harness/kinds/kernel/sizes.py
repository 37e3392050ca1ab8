"""Shapes that cannot fit in this machine: refused when a run is planned."""

from collections.abc import Sequence

import torch

from pcbench.errors import ConfigError
from pcbench.harness.kinds import machine
from pcbench.harness.kinds.kernel.cells import PreparedKernel

__all__ = ["check_kernels"]


def check_kernels(where: str, cells: Sequence[PreparedKernel]) -> None:
    """Refuses shapes whose arguments and results cannot fit in this machine, on a CPU.

    Raises:
        ConfigError: with what would fit.
    """
    memory = machine.memory_bytes()
    for prepared in cells:
        cell = prepared.cell
        size = prepared.shape.work(getattr(torch, cell.dtype).itemsize).bytes
        if cell.device == "cpu" and size > memory:
            raise ConfigError(
                f"{where}: {cell.workload}: at most the {memory / 2**30:.0f} GiB of this machine for what is read and "
                f"written, got {size / 2**30:.0f} GiB; make it smaller"
            )
