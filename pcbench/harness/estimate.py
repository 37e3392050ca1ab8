"""`--dry-run`: what a run would take, from formulas and a short matmul probe."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pcbench import ops
from pcbench.harness.runner import Planned
from pcbench.measure.devices import torch_device

__all__ = ["Estimate", "estimates"]

# a model's forward reaches about this share of a large matmul's rate
FORWARD_SHARE = 0.6
# a probe shorter than this meets a processor that is not yet at its rate
PROBE_S = 0.5
# warm-up with parity, and the pass of its own process that peak memory is read from
UNTIMED_PASSES = 2
# starting a process and loading a model into it
CHILD_S = 8.0


@dataclass(frozen=True)
class Estimate:
    """One cell before it runs.

    Args:
        cell: its name; key: its key.
        passes: prefills, the untimed ones included.
        seconds: of all of them.
        weights_bytes: of the model.
        kv_bytes: keys and values of one prompt.
        why_not: why the cell will not run, None when it will.
    """

    cell: str
    key: str
    passes: int
    seconds: float
    weights_bytes: int
    kv_bytes: int
    why_not: str | None


def estimates(planned: Planned) -> Iterator[Estimate]:
    """An estimate for every cell, in the order of measurement."""
    rate = _matmul_flops_per_s(planned) * FORWARD_SHARE
    spec = planned.spec
    for prepared in planned.cells:
        cell = prepared.cell
        itemsize = getattr(torch, cell.dtype).itemsize
        cost = prepared.config.cost(spec, cell.context_tokens)
        passes = cell.prompts + (UNTIMED_PASSES if cell.timed else 1)
        yield Estimate(
            cell=cell.name,
            key=cell.key,
            passes=passes,
            seconds=passes * cost.flops / rate + (CHILD_S if cell.timed else 0.0),
            weights_bytes=spec.parameters * itemsize,
            kv_bytes=spec.kv_bytes(cost.kv_tokens, itemsize),
            why_not=None if cell.backend == "torch" else ops.why_not(cell.backend, head_dim=spec.head_dim),
        )


def _matmul_flops_per_s(planned: Planned) -> float:
    """Best of half a second of square matmuls in the run's dtype."""
    settings = planned.suite.settings
    device = torch_device(planned.device)
    n = 1024 if device.type == "cpu" else 8192
    a = torch.zeros(n, n, device=device, dtype=getattr(torch, settings.dtype))
    best, end = 0.0, time.perf_counter() + PROBE_S
    while (start := time.perf_counter()) < end:
        (a @ a)[0, 0].item()
        best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best
