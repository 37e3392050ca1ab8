"""What a run of methods would take, from formulas and a short matmul probe."""

from collections.abc import Iterator, Sequence

import torch

from pcbench import ops
from pcbench.harness.kinds import Estimate
from pcbench.harness.kinds.methods.cells import Prepared
from pcbench.harness.kinds.methods.peak import wants_peak
from pcbench.measure.machine.ceilings import Ceilings, glance_at_ceilings
from pcbench.measure.machine.devices import torch_device
from pcbench.measure.sdpa import MOST_PASSES, is_tried
from pcbench.measure.steps import are_replayed
from pcbench.ops.providers import PROVIDERS
from pcbench.types import ModelSpec

__all__ = ["estimates", "probe"]

# a model's forward reaches about this share of a large matmul's rate
FORWARD_SHARE = 0.6
# starting a process and loading a model into it
CHILD_S = 8.0


def probe(cells: Sequence[Prepared]) -> Ceilings:
    """The rates of the cells' device in their dtype."""
    first = cells[0].cell
    return glance_at_ceilings(torch_device(first.device), getattr(torch, first.dtype))


def estimates(cells: Sequence[Prepared], spec: ModelSpec, ceilings: Ceilings) -> Iterator[Estimate]:
    """An estimate for every cell of a run; the passes are prefills.

    Prefills are bound by matmuls, decoding by reading the weights; with a stop rule all prompts are counted.

    Args:
        cells: of the run.
        spec: their model.
        ceilings: of `probe`, on which alone it depends besides.
    """
    for prepared in cells:
        cell = prepared.cell
        itemsize = getattr(torch, cell.dtype).itemsize
        cost = prepared.cost(spec, cell.context_tokens)
        peaks = prepared.effort.peak_passes if wants_peak(prepared) else 0
        trials = MOST_PASSES if cell.is_full and cell.timed and is_tried(torch_device(cell.device)) else 0
        # an answer whose steps are launched and one whose steps are replayed
        held = 2 if cell.timed and are_replayed(torch_device(cell.device)) else 0
        passes = cell.prompts + prepared.effort.warmup_up_to + peaks + trials + held
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
            why_not=prepared.missing or _why_not(cell.backend, spec.head_dim) or _attention_why_not(prepared, spec),
        )


def _why_not(backend: str, head_dim: int) -> str | None:
    return None if backend == "torch" else ops.why_not(backend, head_dim=head_dim)


def _attention_why_not(prepared: Prepared, spec: ModelSpec) -> str | None:
    """Why a library that is named cannot compute the attention of chunks."""
    cell, provider = prepared.cell, PROVIDERS.get(prepared.attention or "")
    if provider is None or cell.backend in ("torch", "reference"):
        return None
    reason = provider.why_not(torch_device(cell.device).type, getattr(torch, cell.dtype), spec.head_dim)
    return reason and f"attention by {prepared.attention}: {reason}"
