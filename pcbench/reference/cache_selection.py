"""Which keys of a whole cache are kept after the query or a decoded token, and what their attention was."""

import torch
from torch import Tensor

from pcbench.reference.bits import pack_bits, unpack_bits
from pcbench.reference.selection import select_tokens
from pcbench.types import KVRows, Ops

__all__ = ["kept_first", "keys_to_keep", "row_masses"]


def row_masses(ops: Ops, q: Tensor, lse: Tensor, rows: KVRows, slots: Tensor, count: int, *, scale: float) -> Tensor:
    """The attention that each of the last `count` rows gives every cached key.

    Args:
        ops: the backend.
        q: [1, H, Q, D], rows of the newest tokens; lse: [1, H, Q] of their attention over the listed slots.
        rows: the layer's cache.
        slots: [1, P] int32, all used; the last holds the rows' own keys.
        count: 1…Q.
        scale: of the scores.

    Returns:
        [count, P, H, L] float32. Keys hidden by bits have what they would have received.
    """
    found = []
    for after in reversed(range(count)):
        row = q.shape[2] - 1 - after
        # the row stands behind its own key when the cache ends there
        lengths = rows.lengths.index_add(
            0, slots[0, -1:].long(), rows.lengths.new_full((1, rows.lengths.shape[1]), -after)
        )
        where = (rows.starts, lengths, slots)
        one, state = q[:, :, row : row + 1], lse[:, :, row : row + 1].contiguous()
        masses = ops.window_mass(one, state, rows.k_rows, *where, scale=scale, causal_last=True, longest=rows.longest)
        found.append(masses[0])
    return torch.stack(found)


def keys_to_keep(
    mass: Tensor,
    lengths: Tensor,
    budgets: Tensor,
    *,
    recent: int,
    pool: int,
    first: int,
    evicted: Tensor | None = None,
) -> Tensor:
    """The keys of a cache with the largest pooled mass, over its slots as one line.

    Args:
        mass: [P, H, L] float32, attention each key received.
        lengths: [P, Hkv] int32, keys of each segment.
        budgets: [Hkv] int32, keys to keep.
        recent: keeps the last keys of the line whatever they received.
        pool: odd width of the max-pool over neighbours in the line.
        first: keeps so many keys at the front of the line too.
        evicted: [P, H, W] int32 bits; a hidden key received nothing, and one hidden from its whole group goes.

    Returns:
        [P, Hkv, L] bool. Ties keep the lower index, as in `select_tokens`.

    Source: SnapKV, arXiv:2404.14469, over the merged cache as the released code of ParallelComp does in its
        stage and its decode-time eviction. There the line is not in reading order after the first step, which
        pools keys that are no neighbours; here it always is.
    """
    slots, heads, longest = mass.shape
    kv_heads = lengths.shape[1]
    group = heads // kv_heads

    def in_line(x: Tensor) -> Tensor:
        return x.transpose(0, 1).flatten(1)

    held = in_line(torch.arange(longest, device=mass.device) < lengths[..., None])  # [Hkv, P·L]
    order = kept_first(held)
    by_head = order.repeat_interleave(group, 0)
    line = in_line(mass).gather(1, by_head)
    dropped = None
    if evicted is not None:
        hidden = in_line(unpack_bits(evicted, longest)).gather(1, by_head)
        line = line.masked_fill(hidden, 0.0)
        dropped = pack_bits(hidden.unflatten(0, (kv_heads, group)).all(1))[None]
    protect = (torch.arange(line.shape[1], device=mass.device) < first)[None]
    unused = mass.new_zeros((1, kv_heads, line.shape[1], 1))
    index = select_tokens(
        line[None], unused, unused, capacity=line.shape[1], budgets=budgets[None], pool=pool, recent=recent,
        key_lengths=held.sum(1)[None].int(), protect=protect, evicted=dropped,
    )[2][0]  # fmt: skip
    # the last column takes what the padding of `index` points at
    chosen = torch.zeros((kv_heads, line.shape[1] + 1), dtype=torch.bool, device=mass.device)
    chosen.scatter_(1, index.long() % (line.shape[1] + 1), True)
    kept: Tensor = torch.zeros_like(held).scatter(1, order, chosen[:, :-1]).unflatten(1, (slots, longest))
    return kept.transpose(0, 1)


def kept_first(kept: Tensor) -> Tensor:
    """[..., L] bool → [..., L] int64: the indices of the kept rows in their order, then the others."""
    return (~kept).int().argsort(dim=-1, stable=True)
