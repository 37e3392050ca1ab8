"""What a run of kernels would take, from formulas and a short probe."""

from collections.abc import Iterator, Sequence

import torch

from pcbench import ops
from pcbench.harness.kinds import Estimate
from pcbench.harness.kinds.kernel.cells import PreparedKernel
from pcbench.measure.kernels.timing import SAMPLE_MS
from pcbench.measure.machine.ceilings import Ceilings, measure_ceilings
from pcbench.measure.machine.devices import torch_device

__all__ = ["estimates"]

# a kernel's first call and the one that finds how it is timed
WARM_CALLS = 2
# a call reaches about this share of what it is bound by, stock code and the reference included
SHARE = 0.25
# the float64 truth and the reference's own error cost about so many calls
PARITY_PASSES = 30


def estimates(cells: Sequence[PreparedKernel]) -> Iterator[Estimate]:
    """An estimate for every cell of a run; the passes are rounds."""
    probed: dict[str, Ceilings] = {}
    for prepared in cells:
        cell = prepared.cell
        if cell.dtype not in probed:
            probed[cell.dtype] = measure_ceilings(torch_device(cell.device), getattr(torch, cell.dtype))
        ceilings = probed[cell.dtype]
        work = prepared.shape.work(getattr(torch, cell.dtype).itemsize)
        once = max(work.flops / ceilings.flops_per_s, work.bytes / ceilings.bytes_per_s) / SHARE
        passes = cell.prompts + (WARM_CALLS if cell.backend == "torch" else PARITY_PASSES)
        seconds = cell.prompts * max(once, SAMPLE_MS / 1e3) + (passes - cell.prompts) * once
        why_not = None if cell.backend == "torch" else ops.why_not(cell.backend, prepared.op)
        yield Estimate(cell.name, cell.key, passes, seconds, {"read and written": int(work.bytes)}, why_not)
