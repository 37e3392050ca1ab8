"""Token eviction from the whole cache: once after the query, or with every decoded token."""

from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from pcbench.methods.parallel_comp.config import Config, Eviction
from pcbench.methods.parallel_comp.layout import Layout
from pcbench.reference.cache_selection import kept_first, keys_to_keep, row_masses
from pcbench.types import KVRows, KVStore, ModelSpec, Ops

__all__ = ["CacheEviction"]


@dataclass(frozen=True)
class CacheEviction:
    """Evicts keys of a layer's cache after its attention, by the attention of the last `rows` rows.

    Args:
        evict: the parameters.
        spec: the model.
        slots: [1, P] int32, the cache in reading order.
        first: keys at the cache's front that begin a text, as a BOS, and stay.
        chunks: kept chunks, of which the query stage leaves a number of keys or a share; None leaves all.
        decoding: each new key displaces another.
        window: layer → [R, P, H, L] attention of the last rows, while decoding evicts.
    """

    evict: Eviction
    spec: ModelSpec
    slots: Tensor
    first: int
    chunks: int | None
    decoding: bool = False
    window: dict[int, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config, layout: Layout, spec: ModelSpec, slots: Tensor, first: int) -> Self | None:
        """For the query stage; None where the config evicts nothing from the cache."""
        evict = config.evict
        if evict is None or (evict.when == "chunk" and not evict.decode):
            return None
        return cls(evict, spec, slots, first, layout.keep if evict.when == "query" else None)

    def for_decoding(self) -> Self | None:
        """The same for the steps after the query; None where they evict nothing."""
        if not self.evict.decode:
            return None
        return type(self)(self.evict, self.spec, self.slots, self.first, None, True, self.window)

    def after(self, layer: int, q: Tensor, lse: Tensor, store: KVStore, ops: Ops) -> None:
        """Looks at the newest rows q [1, H, Q, D] of a layer and evicts what their attention leaves out."""
        rows, count = store.rows(layer), min(self.evict.rows, q.shape[2])
        new = row_masses(ops, q, lse, rows, self.slots, count, scale=self.spec.scale)
        window = torch.cat([self.window[layer], new])[-self.evict.rows :] if layer in self.window else new
        if self.decoding or self.chunks is not None:
            window = self._evict(layer, window, rows, q.shape[2], store)
        if not self.evict.decode:
            return
        held = self.window.get(layer)
        if held is None or held.shape != window.shape:
            self.window[layer] = window
        else:
            held.copy_(window)

    def _left(self, held: Tensor, chunks: int) -> Tensor:
        """[Hkv] int32: how many of the `held` keys the query stage leaves, the query's own among them."""
        if self.evict.capacity is None:
            return (held.double() * (self.evict.share or 1.0)).round().int().clamp_min(1)
        return held.clamp_max(min(self.evict.capacity * chunks, torch.iinfo(held.dtype).max))

    def _evict(self, layer: int, window: Tensor, rows: KVRows, new: int, store: KVStore) -> Tensor:
        """Evicts by the window's sum; the window in the new order of the rows."""
        listed = rows.lengths[self.slots[0].long()]  # [P, Hkv]
        held = listed.sum(0, dtype=torch.int32)
        kept = keys_to_keep(
            window.sum(0),
            listed,
            held - new if self.chunks is None else self._left(held, self.chunks),
            recent=window.shape[0],
            pool=self.evict.pool,
            first=self.first,
            evicted=None if rows.evicted is None else rows.evicted[self.slots[0].long()],
        )
        store.keep(layer, self.slots[0], kept)
        order = kept_first(kept).repeat_interleave(window.shape[2] // kept.shape[1], 1)
        return window.gather(3, order.expand(window.shape[0], -1, -1, -1))
