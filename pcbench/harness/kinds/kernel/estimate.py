"""What a run of kernels would take, from formulas and a short probe."""

from collections.abc import Iterator, Mapping, Sequence

import torch

from pcbench import ops
from pcbench.harness.kinds import Estimate
from pcbench.harness.kinds.kernel.cells import PreparedKernel
from pcbench.measure.kernels.timing import SAMPLE_MS
from pcbench.measure.machine.ceilings import Ceilings, glance_at_ceilings
from pcbench.measure.machine.devices import torch_device

__all__ = ["estimates", "probes"]

# the share of its bound that a call reaches on a CPU, over the suite's shapes: stock code, the reference, and ours
SHARES = {"torch": 0.45, "reference": 0.18}
COMPILED_SHARE = 0.85
# calls before the first round, and, in times of the bound, what the float64 truth of a call's sample costs
WARM_CALLS, PARITY_BOUNDS = 5, 25


def probes(cells: Sequence[PreparedKernel]) -> dict[str, Ceilings]:
    """The rates of the cells' device in each of their dtypes."""
    device = torch_device(cells[0].cell.device)
    dtypes = dict.fromkeys(prepared.cell.dtype for prepared in cells)
    return {dtype: glance_at_ceilings(device, getattr(torch, dtype)) for dtype in dtypes}


def estimates(cells: Sequence[PreparedKernel], probed: Mapping[str, Ceilings]) -> Iterator[Estimate]:
    """An estimate for every cell of a run; the passes are rounds.

    Args:
        cells: of the run.
        probed: of `probes`, on which alone it depends besides.
    """
    for prepared in cells:
        cell = prepared.cell
        ceilings = probed[cell.dtype]
        work = prepared.shape.work(getattr(torch, cell.dtype).itemsize)
        bound = max(work.flops / ceilings.flops_per_s, work.bytes / ceilings.bytes_per_s)
        once = bound / SHARES.get(cell.backend, COMPILED_SHARE)
        parity = 0.0 if cell.backend == "torch" else PARITY_BOUNDS * bound
        seconds = cell.prompts * max(once, SAMPLE_MS / 1e3) + WARM_CALLS * once + parity
        why_not = None if cell.backend == "torch" else ops.why_not(cell.backend, prepared.op)
        yield Estimate(cell.name, cell.key, cell.prompts, seconds, {"read and written": int(work.bytes)}, why_not)
