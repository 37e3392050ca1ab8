"""Dual chunk attention as a plan: queries and keys arrive turned by their position modulo the period."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pcbench import reference
from pcbench.methods.dual_chunk.chunks import Choice
from pcbench.methods.dual_chunk.config import Config
from pcbench.types import KVRows, ModelSpec, Ops, RaggedKVStore, Rotary

__all__ = ["FreshPlan", "StoredPlan"]

# of the logarithm of how many times longer than in training
GAINS = {"yarn": 0.1, "half-yarn": 0.05}
# query rows whose scores are made at once where gradients are wanted
BLOCK = 256
# nothing in them is random
AGAIN: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}


@dataclass(frozen=True, eq=False)
class StoredPlan:
    """Attention of new tokens over what is stored, themselves included; every row has as many.

    Args:
        config: resolved.
        spec: the model.
        rotary: of the model.
        choice: which chunks are read; None reads all.
    """

    config: Config
    spec: ModelSpec
    rotary: Rotary
    choice: Choice | None

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, store: RaggedKVStore, ops: Ops) -> Tensor:
        rows = store.rows(layer)
        return _attended(q, rows, self._options(layer, q, k, rows, None), ops)

    def _options(self, layer: int, q: Tensor, k: Tensor, rows: KVRows, lengths: Tensor | None) -> dict[str, Any]:
        """The other arguments of the op; lengths [B] int32 are valid rows of q and k, None means all."""
        period, clip, _ = self.config.numbers
        turns, interleaved = self.rotary.table(layer, clip)
        counts = rows.lengths.new_full((len(q),), q.shape[2]) if lengths is None else lengths
        first = rows.lengths[:, 0].long() - counts
        gains, chunks = self._gains(first, q.shape[2]), None
        if self.choice is not None:
            self.choice.add(layer, k, first, counts.long(), rows.longest)
            chunks = self.choice(layer, q, rows, counts.long(), gains)
        return {
            "turns": turns,
            "scale": self.spec.scale,
            "period": period,
            "interleaved": interleaved,
            "query_lengths": lengths,
            "gains": gains,
            "chunks": chunks,
            "tile_rows": 0 if chunks is None else self.config.tile_rows,
        }

    def _gains(self, first: Tensor, count: int) -> Tensor | None:
        """[B, T] float32 for rows from positions `first` [B] on."""
        if self.config.gain not in GAINS:
            return None
        _, _, trained = self.config.numbers
        tokens = first[:, None] + torch.arange(1, count + 1, device=first.device)
        longer = (tokens.double() / trained).clamp_min(1)
        return (1 + GAINS[self.config.gain] * longer.log()).square().float()


@dataclass(frozen=True, eq=False)
class FreshPlan(StoredPlan):
    """Attention of a text's first tokens among themselves; where there is a store, it takes their keys and values.

    Gradients flow where grad mode is on: by the reference, a block of queries at a time, whose scores are made again
    in the backward pass. What is stored has none.

    Args:
        lengths: [B] int32, tokens of each row, at its front; None means all.
    """

    lengths: Tensor | None = field(default=None, kw_only=True)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, store: RaggedKVStore | None, ops: Ops) -> Tensor:
        batch, kv_heads, tokens, _ = k.shape
        if self.choice is not None:
            self.choice.begin(layer)
        counts = self.lengths
        if counts is None:
            counts = torch.full((batch,), tokens, dtype=torch.int32, device=k.device)
        held = counts[:, None].expand(-1, kv_heads).contiguous()
        if store is not None:
            place = torch.arange(tokens, dtype=torch.int32, device=k.device)
            index = place.expand(batch, kv_heads, -1).masked_fill(place >= held[..., None], -1)
            store.fill(layer, k.detach(), v.detach(), index, held)
        wanted = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
        if store is not None and not wanted:
            rows = store.rows(layer)
        else:
            starts = torch.arange(batch * kv_heads, dtype=torch.int32, device=k.device) * tokens
            arrays = k.reshape(-1, k.shape[3]), v.reshape(-1, v.shape[3])
            rows = KVRows(*arrays, starts.view(batch, kv_heads), held, None, tokens)
        options = self._options(layer, q, k, rows, self.lengths)
        return _in_blocks(q, rows, counts, options) if wanted else _attended(q, rows, options, ops)

    def later(self) -> StoredPlan:
        """The plan of what follows."""
        return StoredPlan(self.config, self.spec, self.rotary, self.choice)


def _attended(q: Tensor, rows: KVRows, options: dict[str, Any], ops: Ops) -> Tensor:
    arrays = rows.k_rows, rows.v_rows, rows.starts, rows.lengths
    out: Tensor = ops.dual_chunk_attention(q, *arrays, **options)[0]
    return out


def _in_blocks(q: Tensor, rows: KVRows, counts: Tensor, options: dict[str, Any]) -> Tensor:
    """The reference, with gradients: no more than the scores of a block are there at any time.

    A block is some whole tiles or a part of one.

    Args:
        q: [B, H, T, D].
        rows: their own keys and values.
        counts: [B] int32, valid rows of q.
        options: of the op, for all rows.
    """
    count, gains, chunks = q.shape[2], options["gains"], options["chunks"]
    tile = options["tile_rows"] or count
    step = BLOCK // tile * tile or BLOCK
    outs: list[Tensor] = []
    end = 0
    while end < count:
        start, end = end, min(end + step, count)
        if step < tile:
            end = min(end, (start // tile + 1) * tile)
        valid = (counts - start).clamp(0, end - start)
        own = {
            "query_lengths": valid,
            "gains": None if gains is None else gains[:, start:end],
            "chunks": None if chunks is None else chunks[:, :, start // tile : -(-end // tile)],
        }
        # the last of the block's valid rows stands at the last key that is seen
        held = rows.lengths - (counts - start - valid).clamp_min(0)[:, None]
        arrays = rows.k_rows, rows.v_rows, rows.starts, held
        outs.append(checkpoint(_out, q[:, :, start:end], *arrays, options | own, **AGAIN))
    return torch.cat(outs, 2)


def _out(q: Tensor, k_rows: Tensor, v_rows: Tensor, starts: Tensor, lengths: Tensor, options: dict[str, Any]) -> Tensor:
    return reference.dual_chunk_attention(q, k_rows, v_rows, starts, lengths, **options)[0]
