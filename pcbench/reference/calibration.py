"""Attention calibration: keys that receive more than a threshold of the attention are evicted, by zone.

Source: equation 8 and appendix C of ParallelComp, arXiv:2502.14317v2.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from pcbench.types import KVRows, Ops

__all__ = ["bias_in_cache", "bias_in_chunks", "fill_heads", "keys_to_evict", "zone_mask"]


class Rule(Protocol):
    """What a rule says of one layer."""

    @property
    def zone(self) -> str: ...
    @property
    def threshold(self) -> float: ...
    @property
    def rows(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def shared(self) -> bool: ...
    @property
    def fill(self) -> bool: ...
    @property
    def query_keys(self) -> bool: ...


def zone_mask(zone: str, position: Tensor, total: Tensor | int, width: int) -> Tensor:
    """Which positions lie in a zone of a sequence of `total` keys.

    Args:
        zone: sink: the first `width`; recent: the last `width`, unless they are sink; middle: the rest; all.
        position: [...] integers, 0-based; negative ones are in no zone.
        total: broadcastable to position; keys in the sequence.
        width: keys of the sink and of the recent zone.

    Returns:
        [...] bool. The three zones are a partition of the valid positions.

    Source: zones of 100 keys, appendix C. In the released code the keys at exactly 100 and n − 100 belong to
        no zone and short sequences have overlapping zones; here they partition.
    """
    valid = (position >= 0) & (position < total)
    sink = position < width
    recent = (position >= total - width) & ~sink
    if zone == "all":
        return valid
    return valid & {"sink": sink, "recent": recent, "middle": ~sink & ~recent}[zone]


def keys_to_evict(mass: Tensor, rows: int, threshold: float, zone: Tensor) -> Tensor:
    """The keys of a zone whose mean attention over a window of rows exceeds the threshold.

    A row's attention sums to 1, so fewer than 1/threshold keys of a head are evicted.

    Args:
        mass: [...] float32, attention summed over the window.
        rows: rows of the window, ≥ 1.
        threshold: share of the attention, in (0, 1].
        zone: broadcastable to mass, bool.

    Returns:
        [...] bool.
    """
    return (mass > threshold * rows) & zone


def fill_heads(evicted: Tensor, mass: Tensor, candidates: Tensor) -> Tensor:
    """Evicts the least attended candidates of each head until all heads have lost as many as the one that lost most.

    Args:
        evicted: [..., H, S] bool; mass: [..., H, S] float32; candidates: broadcastable to them, bool.

    Returns:
        [..., H, S] bool, `evicted` among them; ties fill the lower index.

    Source: the released code of ParallelComp keeps its tensors rectangular so; equation 8 does not say it.
    """
    lost = evicted.sum(-1)
    missing = lost.amax(-1, keepdim=True) - lost
    free = candidates & ~evicted
    order = mass.masked_fill(~free, torch.inf).argsort(dim=-1, stable=True)
    rank = torch.arange(mass.shape[-1], device=mass.device).expand_as(order)
    filled = torch.zeros_like(evicted).scatter(-1, order, rank < missing[..., None])
    return evicted | filled & free


def _evicted_by(rule: Rule, mass: Tensor, rows: int, zone: Tensor, candidates: Tensor) -> Tensor:
    """[..., H, S] bool: what a rule evicts, given the mass of its window of `rows`."""
    if rule.shared:
        mass = mass.mean(-2, keepdim=True).expand_as(mass)
    evicted = keys_to_evict(mass, rows, rule.threshold, zone & candidates)
    return fill_heads(evicted, mass, candidates) if rule.fill else evicted


def bias_in_chunks(
    ops: Ops,
    rules: Sequence[Rule],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float,
    lengths: Tensor,
    context_lengths: Tensor,
    query_rows: int,
) -> Tensor:
    """Context keys that rules evict inside each chunk, from the last query rows of the chunk's own attention.

    Args:
        ops: the backend.
        rules: those of the layer.
        q: [M, H, T, D]; k, v: [M, Hkv, T, D] of rows [prefix, chunk, query].
        scale: of the scores.
        lengths: [M] int32, valid rows; context_lengths: [M] int32, of which context.
        query_rows: rows after the context.

    Returns:
        [M, H, T] bool; zones are counted in the chunk's context.
    """
    kv_lengths = lengths[:, None].expand(-1, k.shape[1]).contiguous()
    position = torch.arange(k.shape[2], device=k.device)
    evicted = torch.zeros((*q.shape[:2], k.shape[2]), dtype=torch.bool, device=q.device)
    for rule in rules:
        rows = min(rule.rows, query_rows)
        last = lengths[:, None].long() - rows + torch.arange(rows, device=q.device)
        window = q.gather(2, last[:, None, :, None].expand(-1, q.shape[1], -1, q.shape[3]))
        mass = ops.calibrated_attention(window, k, v, scale=scale, causal=True, key_lengths=kv_lengths, mass_rows=rows)[
            2
        ]
        zone, context = (
            zone_mask(name, position, context_lengths[:, None, None], rule.width) for name in (rule.zone, "all")
        )
        evicted |= _evicted_by(rule, mass, rows, zone, context)
    return evicted


def bias_in_cache(ops: Ops, rules: Sequence[Rule], q: Tensor, rows: KVRows, slots: Tensor, *, scale: float) -> Tensor:
    """Cached keys that rules evict, from the last query rows over all listed slots.

    Args:
        ops: the backend.
        rules: those of the layer.
        q: [1, H, Q, D], the query's rows.
        rows: the layer's cache.
        slots: [1, P] int32, all used; the last holds the query's own keys, which only rules with `query_keys` evict.
        scale: of the scores.

    Returns:
        [P, H, L] bool; zones are counted over the listed slots one after another, the query's included.
    """
    listed = rows.lengths[slots[0].long()]  # [P, Hkv]
    before = listed.cumsum(0) - listed
    row = torch.arange(rows.longest, device=q.device)
    group = q.shape[1] // listed.shape[1]

    def in_line(x: Tensor) -> Tensor:
        """[P, H, L] → [H, P·L]: one slot after another."""
        return x.transpose(0, 1).flatten(1)

    position = in_line((before[..., None] + row).repeat_interleave(group, 1))
    held = in_line((row < listed[..., None]).repeat_interleave(group, 1))
    of_chunks = (torch.arange(len(listed) * rows.longest, device=q.device) < (len(listed) - 1) * rows.longest) & held
    total = listed.sum(0).repeat_interleave(group)[:, None]
    evicted = torch.zeros_like(held)
    for rule in rules:
        window = q[:, :, -min(rule.rows, q.shape[2]) :]
        where = (rows.starts, rows.lengths, slots)
        _, lse = ops.cached_attention(window, rows.k_rows, rows.v_rows, *where, scale=scale, causal_last=True)
        mass = ops.window_mass(window, lse, rows.k_rows, *where, scale=scale, causal_last=True, longest=rows.longest)
        zone = zone_mask(rule.zone, position, total, rule.width)
        candidates = held if rule.query_keys else of_chunks
        evicted |= _evicted_by(rule, in_line(mass[0]), window.shape[2], zone, candidates)
    by_slot: Tensor = evicted.unflatten(1, (len(listed), rows.longest))
    return by_slot.transpose(0, 1)
