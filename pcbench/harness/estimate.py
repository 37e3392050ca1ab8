"""`--dry-run`: what a run would take, from formulas and a short matmul probe."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from pcbench import ops
from pcbench.harness.kinds.methods.peak import wants_peak
from pcbench.harness.runner import Planned
from pcbench.measure.kernels.timing import SAMPLE_MS
from pcbench.measure.machine.ceilings import Ceilings, measure_ceilings
from pcbench.measure.machine.devices import torch_device
from pcbench.suites import KernelSuite

__all__ = ["Estimate", "estimates"]

# a model's forward reaches about this share of a large matmul's rate
FORWARD_SHARE = 0.6
# a kernel's first call and the one that finds how it is timed
KERNEL_WARM_CALLS = 2
# a call reaches about this share of what it is bound by, stock code and the reference included
KERNEL_SHARE = 0.25
# the float64 truth and the reference's own error cost about so many calls
PARITY_PASSES = 30
# starting a process and loading a model into it
CHILD_S = 8.0


@dataclass(frozen=True)
class Estimate:
    """One cell before it runs.

    Args:
        cell: its name; key: its key.
        passes: prefills, the untimed ones included.
        seconds: of all of them.
        sizes: bytes by what they hold: weights, KV of one prompt; of a kernel what it reads and writes.
        why_not: why the cell will not run, None when it will.
    """

    cell: str
    key: str
    passes: int
    seconds: float
    sizes: dict[str, int]
    why_not: str | None


def estimates(planned: Planned) -> Iterator[Estimate]:
    """An estimate for every cell, in the order of measurement."""
    device, dtype = torch_device(planned.device), getattr(torch, planned.suite.settings.dtype)
    if isinstance(planned.suite, KernelSuite):
        yield from _kernels(planned.cells, measure_ceilings(device, dtype))
    else:
        yield from _prefills(planned, measure_ceilings(device, dtype))


def _prefills(planned: Planned, ceilings: Ceilings) -> Iterator[Estimate]:
    """Prefills are bound by matmuls, decoding by reading the weights; with a stop rule all prompts are counted."""
    spec = planned.spec
    assert spec is not None, "a suite of methods has a model"
    for prepared in planned.cells:
        cell = prepared.cell
        itemsize = getattr(torch, cell.dtype).itemsize
        cost = prepared.config.cost(spec, cell.context_tokens)
        peaks = prepared.effort.peak_passes if wants_peak(cell) else 0
        passes = cell.prompts + prepared.effort.warmup_up_to + peaks
        prefill = cost.flops / (ceilings.flops_per_s * FORWARD_SHARE)
        # how long an answer is that ends by a task's own rules, no formula says
        steps = max(0, (prepared.new_tokens or 0) - 1)
        decode = steps * spec.parameters * itemsize / ceilings.bytes_per_s
        yield Estimate(
            cell=cell.name,
            key=cell.key,
            passes=passes,
            seconds=passes * prefill + (cell.prompts + peaks) * decode + CHILD_S * peaks,
            sizes={"weights": spec.parameters * itemsize, "KV": spec.kv_bytes(cost.kv_tokens, itemsize)},
            why_not=prepared.missing or _why_not(cell.backend, spec.head_dim),
        )


def _why_not(backend: str, head_dim: int) -> str | None:
    return None if backend == "torch" else ops.why_not(backend, head_dim=head_dim)


def _kernels(cells: list[Any], ceilings: Ceilings) -> Iterator[Estimate]:
    for prepared in cells:
        cell = prepared.cell
        work = prepared.shape.work(getattr(torch, cell.dtype).itemsize)
        once = max(work.flops / ceilings.flops_per_s, work.bytes / ceilings.bytes_per_s) / KERNEL_SHARE
        passes = cell.prompts + (KERNEL_WARM_CALLS if cell.backend == "torch" else PARITY_PASSES)
        seconds = cell.prompts * max(once, SAMPLE_MS / 1e3) + (passes - cell.prompts) * once
        why_not = None if cell.backend == "torch" else ops.why_not(cell.backend, prepared.op)
        yield Estimate(cell.name, cell.key, passes, seconds, {"read and written": int(work.bytes)}, why_not)
