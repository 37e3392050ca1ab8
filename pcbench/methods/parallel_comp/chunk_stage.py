"""Attention inside chunks, and what of each chunk is stored."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pcbench.methods.parallel_comp.config import Config
from pcbench.methods.parallel_comp.layout import Layout
from pcbench.reference.bits import pack_bits
from pcbench.reference.calibration import bias_in_chunks
from pcbench.reference.packing import ChunkBatch, of_heads
from pcbench.types import KVStore, ModelRunner, ModelSpec, Ops, Stages

__all__ = ["ChunkPlan", "prefill_chunks"]


def prefill_chunks(
    runner: ModelRunner, config: Config, layout: Layout, batch: ChunkBatch, store: KVStore, free: Tensor, stages: Stages
) -> Tensor:
    """Hidden rows of a micro-batch; the context keys go into the first slots of `free`."""
    slots = free[: batch.ids.shape[0]]
    plan = ChunkPlan(config, layout, runner.spec, batch, slots, stages)
    store.begin(slots, 0 if plan.selects else batch.context_lengths)
    return runner.forward(batch.ids, batch.positions, batch.lengths, store, plan, stages)


@dataclass(frozen=True)
class ChunkPlan:
    """Attention inside chunks; evicts tokens and bias keys of the chunk's slot as the rules say."""

    config: Config
    layout: Layout
    spec: ModelSpec
    batch: ChunkBatch
    slots: Tensor  # [M']
    stages: Stages

    @property
    def selects(self) -> bool:
        """Whether tokens are evicted here."""
        return self.config.evict is not None and self.config.evict.when == "chunk"

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, store: KVStore, ops: Ops) -> Tensor:
        batch, evict, scale = self.batch, self.config.evict, self.spec.scale
        ragged = {}
        if batch.ragged:
            ragged = {"query_lengths": batch.lengths, "key_lengths": of_heads(batch.lengths, k.shape[1])}
        rules = self.config.rules("chunk", layer)
        hidden, evicted = None, {}
        if now := [rule for rule in rules if rule.starts_now]:
            hidden = self._biased(now, q, k, v, ops)
            evicted = {"evicted": pack_bits(hidden)}
        rows = evict.rows if evict and self.selects else 0
        out, _, mass = ops.calibrated_attention(
            q, k, v, scale=scale, causal=True, mass_rows=rows, **ragged, **evicted
        )  # fmt: skip
        if following := [rule for rule in rules if not rule.starts_now]:
            found = self._biased(following, q, k, v, ops)
            hidden = found if hidden is None else hidden | found
        if self.selects:
            hidden = self._select(layer, mass, k, v, hidden, store, ops)
        if hidden is not None:
            store.evict(layer, self.slots, pack_bits(hidden))
        return out

    def _biased(self, rules: list, q: Tensor, k: Tensor, v: Tensor, ops: Ops) -> Tensor:  # type: ignore[type-arg]
        """[M', H, T] bool: context keys that rules evict."""
        batch = self.batch
        lengths = {"lengths": batch.lengths, "context_lengths": batch.context_lengths}
        with self.stages("calibration"):
            return bias_in_chunks(ops, rules, q, k, v, scale=self.spec.scale, query_rows=batch.query_rows, **lengths)

    def _select(
        self, layer: int, mass: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None, store: KVStore, ops: Ops
    ) -> Tensor | None:
        """Stores the selected keys; bits of evicted ones follow them to their new rows."""
        evict = self.config.evict
        assert evict is not None, "a config that evicts tokens"
        if evict.group == "query_head":
            k, v = (x.repeat_interleave(mass.shape[1] // x.shape[1], 1) for x in (k, v))
        contexts = self.batch.context_lengths[:, None].expand(-1, k.shape[1]).contiguous()
        protect, starts = None, self.layout.start_tokens
        if starts:
            protect = torch.arange(k.shape[2], device=k.device).lt(starts).expand(k.shape[0], -1).contiguous()
            if not evict.pool_first:
                # a NaN is left out before pooling; the keys themselves are protected
                later = self.batch.chunk_ids[: len(protect), None, None] > 0
                mass = torch.cat([mass[..., :starts].masked_fill(later, torch.nan), mass[..., starts:]], -1)
        dropped = None
        if hidden is not None:
            # a key goes only where every head of its group evicts it
            dropped = pack_bits(hidden.unflatten(1, (k.shape[1], -1)).all(2))
        k2, v2, index, lengths = ops.select_tokens(
            mass, k, v, capacity=self.layout.chunk_keys, key_lengths=contexts, pool=evict.pool,
            protect=protect, evicted=dropped,
        )  # fmt: skip
        store.select(layer, k2, v2, lengths)
        if hidden is None:
            return None
        group = hidden.shape[1] // index.shape[1]
        return hidden.gather(2, index.clamp_min(0).long().repeat_interleave(group, 1))
