"""What a run of methods would take, from formulas and a short matmul probe."""

from collections.abc import Iterator, Sequence

import torch

from pcbench import ops
from pcbench.harness.kinds import Estimate
from pcbench.harness.kinds.methods.cells import Prepared
from pcbench.harness.kinds.methods.peak import wants_peak
from pcbench.harness.kinds.methods.sizes import weight_bytes_of
from pcbench.measure.machine.ceilings import Ceilings, glance_at_ceilings
from pcbench.measure.machine.devices import torch_device
from pcbench.measure.sdpa import MOST_PASSES, is_tried
from pcbench.measure.steps import are_replayed
from pcbench.ops.providers import PROVIDERS
from pcbench.types import Cell, ModelSpec

__all__ = ["estimates", "probe"]

# a model's forward reaches about this share of a large matmul's rate
FORWARD_SHARE = 0.6
# seconds that a process takes to start, and bytes a second of a model that is loaded and held against itself
START_S, LOADED_PER_S = 3.0, {"cpu": 0.2e9}
# elsewhere as fast as a disk may be
FROM_DISK = 2e9


def probe(cells: Sequence[Prepared]) -> Ceilings:
    """The rates of the cells' device in their dtype."""
    first = cells[0].cell
    return glance_at_ceilings(torch_device(first.device), getattr(torch, first.dtype))


def estimates(cells: Sequence[Prepared], spec: ModelSpec, ceilings: Ceilings) -> Iterator[Estimate]:
    """An estimate for every cell of a run; the passes are prefills.

    Prefills are bound by matmuls, decoding by reading the weights; with a stop rule all prompts are counted. The model
    is loaded once, where peak memory is taken for every group, and then by processes of their own: on a GPU one, on a
    CPU one a pass. An engine reads every prompt twice, as fast as full attention for all that is known.

    Args:
        cells: of the run.
        spec: their model.
        ceilings: of `probe`, on which alone it depends besides.
    """
    held_by: set[str] = set()
    for prepared in cells:
        cell = prepared.cell
        itemsize = getattr(torch, cell.dtype).itemsize
        weights = weight_bytes_of(prepared, spec)
        cost = prepared.cost(spec, cell.context_tokens)
        peaks = prepared.effort.peak_passes if wants_peak(prepared) else 0
        trials = MOST_PASSES if cell.is_full and cell.timed and is_tried(torch_device(cell.device)) else 0
        # an answer whose steps are launched and one whose steps are replayed
        held = 2 if cell.timed and are_replayed(torch_device(cell.device)) else 0
        passes = len(cell.indices) + prepared.effort.warmup_up_to + peaks + trials + held
        prefill = cost.flops / (ceilings.flops_per_s * FORWARD_SHARE)
        # how long an answer is that ends by a task's own rules, no formula says
        steps = max(0, (prepared.new_tokens or 0) - 1)
        decode = steps * weights / ceilings.bytes_per_s
        children = peaks if cell.device == "cpu" else min(1, peaks)
        load = spec.parameters * itemsize / LOADED_PER_S.get(cell.device, FROM_DISK)
        # it stays for the next group unless it would be in a peak
        holds = cell.group if peaks else ""
        loads = children + (holds not in held_by)
        held_by.add(holds)
        if cell.engine:
            # a prompt is asked for a token, and for its answer
            passes, prefill = len(cell.indices) + 1, 2 * prefill
        yield Estimate(
            cell=cell.name,
            key=cell.key,
            passes=passes,
            seconds=passes * prefill + (len(cell.indices) + peaks) * decode + START_S * children + load * loads,
            sizes={"weights": weights, "KV": spec.kv_bytes(cost.kv_tokens, itemsize)},
            why_not=prepared.missing or _why_not(cell, spec.head_dim) or _attention_why_not(prepared, spec),
        )


def _why_not(cell: Cell, head_dim: int) -> str | None:
    # whether an engine is there, the run says
    return None if cell.engine or cell.backend == "torch" else ops.why_not(cell.backend, head_dim=head_dim)


def _attention_why_not(prepared: Prepared, spec: ModelSpec) -> str | None:
    """Why a library that is named cannot compute the attention of chunks."""
    cell, provider = prepared.cell, PROVIDERS.get(prepared.attention or "")
    if provider is None or cell.backend in ("torch", "reference"):
        return None
    reason = provider.why_not(torch_device(cell.device).type, getattr(torch, cell.dtype), spec.head_dim)
    return reason and f"attention by {prepared.attention}: {reason}"
