"""One request's keys and values in slots of equal capacity: a `KVStore` that transformers takes for a cache."""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from pcbench.reference.bits import pack_bits, unpack_bits, words
from pcbench.reference.cache_selection import kept_first
from pcbench.types import KVRows, ModelSpec

__all__ = ["SlotCache"]


class SlotCache(Cache):  # type: ignore[misc]
    """Slots × kv-heads segments of `capacity` rows in every layer, allocated once and never copied.

    `update`, called by the model's attention layers, writes the new rows and returns only them: what a
    row may see beyond its own forward is for the method's plan to say.

    Args:
        spec: the model.
        slots: N.
        capacity: rows of a segment.
        evictions: keep bits for evicted keys.
        kv_heads: heads of the store, a multiple of the model's, whose keys are then repeated; None means the model's.
        bits_for: rows of a segment that there are bits for; None means the capacity.
        dtype: of keys and values.
        device: where they lie.
    """

    def __init__(
        self,
        spec: ModelSpec,
        slots: int,
        capacity: int,
        *,
        evictions: bool,
        kv_heads: int | None = None,
        bits_for: int | None = None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__(layers=[])
        self.capacity = capacity
        kv_heads = kv_heads or spec.kv_heads
        self.repeats = kv_heads // spec.kv_heads
        shape = (spec.layers, slots, kv_heads, capacity, spec.head_dim)
        self._allocate(shape, dtype, device)
        segments = torch.arange(slots * kv_heads, dtype=torch.int32, device=device)
        self.origin = (segments * capacity).view(slots, kv_heads)
        self.starts = self.origin.clone()
        self.lengths = torch.zeros(shape[:3], dtype=torch.int32, device=device)
        bits = (spec.layers, slots, spec.heads, words(bits_for or capacity))
        self.evicted = torch.zeros(bits, dtype=torch.int32, device=device) if evictions else None
        self.heads = torch.arange(kv_heads, device=device)

    def _allocate(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        self.k, self.v = (torch.empty(shape, dtype=dtype, device=device) for _ in range(2))

    def begin(self, slots: Tensor, rows: Tensor | int | None = None) -> None:
        """Empties `slots` [M] int32; forwards from now on write there.

        Args:
            slots: [M] int32 on the device.
            rows: [M] int32 or one number: leading rows of the next forward to keep; None keeps every valid row.
        """
        self.slots, self.row_limit = slots.long(), rows
        self.lengths[:, self.slots] = 0
        if self.evicted is not None:
            self.evicted[:, self.slots] = 0
        self.empty = set(range(self.k.shape[0]))

    def expect(self, lengths: Tensor) -> None:
        """[M] int32 valid rows of the forward that comes next."""
        self.valid = lengths

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Writes [M, Hkv, T, D] rows of one layer behind what its slots hold."""
        k, v = (x.to(self.k.device) for x in (key_states, value_states))
        if self.repeats > 1:
            k, v = (x.repeat_interleave(self.repeats, 1) for x in (k, v))
        if layer_idx in self.empty:
            self.empty.discard(layer_idx)
            self._write_first(layer_idx, k, v)
        else:
            self._append(layer_idx, k, v)
        return key_states, value_states

    def _write_first(self, layer: int, k: Tensor, v: Tensor) -> None:
        rows = self.valid if self.row_limit is None else self.row_limit
        if isinstance(rows, int) and rows == 0:
            return
        written = min(k.shape[2], self.capacity)
        self.k[layer, self.slots, :, :written] = k[:, :, :written]
        self.v[layer, self.slots, :, :written] = v[:, :, :written]
        self.lengths[layer, self.slots] = rows if isinstance(rows, int) else rows[:, None]

    def _append(self, layer: int, k: Tensor, v: Tensor) -> None:
        held = self.lengths[layer, self.slots]  # [M, Hkv]
        row = held[..., None] + torch.arange(k.shape[2], device=k.device)
        place = (self.slots[:, None, None], self.heads[:, None], row)
        self.k[layer][place] = k
        self.v[layer][place] = v
        self.lengths[layer, self.slots] = held + self.valid[:, None]

    def select(self, layer: int, k: Tensor, v: Tensor, lengths: Tensor) -> None:
        """Replaces what the slots hold in `layer`: k, v [M, Hkv, C, D] with C ≤ capacity, lengths [M, Hkv] int32."""
        self.k[layer, self.slots, :, : k.shape[2]] = k
        self.v[layer, self.slots, :, : v.shape[2]] = v
        self.lengths[layer, self.slots] = lengths

    def evict(self, layer: int, slots: Tensor, bits: Tensor) -> None:
        """Hides keys: bits [M, H, W'] int32 are added to those of `slots` [M]; words beyond the capacity are cut."""
        assert self.evicted is not None, "a store made with evictions"
        width = self.evicted.shape[3]
        fitted = torch.nn.functional.pad(bits, (0, max(0, width - bits.shape[2])))[..., :width]
        self.evicted[layer, slots.long()] |= fitted

    def keep(self, layer: int, slots: Tensor, kept: Tensor) -> None:
        """Keeps of `slots` [P] only the rows where kept [P, Hkv, capacity] is true, moved to the front; bits follow."""
        index = slots.long()
        order, count = kept_first(kept), kept.sum(-1, dtype=torch.int32)
        row = torch.arange(self.capacity, device=kept.device)
        # a segment whose first key was skipped starts one row later
        skipped = (self.starts[index] - self.origin[index])[..., None].long()
        source = order.gather(2, (row - skipped).clamp_min(0)) + skipped
        source = torch.where(row - skipped < count[..., None], source, row).clamp_max(self.capacity - 1)
        source = torch.where(row < skipped, row, source)[..., None].expand(-1, -1, -1, self.k.shape[-1])
        self.k[layer, index] = self.k[layer, index].gather(2, source)
        self.v[layer, index] = self.v[layer, index].gather(2, source)
        self.lengths[layer, index] = count
        if self.evicted is not None:
            group = self.evicted.shape[2] // kept.shape[1]
            moved = unpack_bits(self.evicted[layer, index], self.capacity).gather(2, order.repeat_interleave(group, 1))
            still = row < count[..., None].repeat_interleave(group, 1)
            self.evicted[layer, index] = pack_bits(moved & still)

    def skip_first(self, slots: Tensor, where: Tensor) -> None:
        """Drops the first key of those of `slots` [K] int32 for which `where` [K] is true; the bits follow."""
        index = slots.long()
        self.starts[index] += where[:, None].int()
        self.lengths[:, index] = (self.lengths[:, index] - where[:, None].int()).clamp_min(0)
        if self.evicted is not None:
            bits = self.evicted[:, index]
            shifted = pack_bits(unpack_bits(bits, self.capacity + 1)[..., 1:])
            self.evicted[:, index] = torch.where(where[:, None, None], shifted, bits)

    def take(self, layer: int, slots: Tensor) -> list[Tensor]:
        """Copies of what `slots` [P] hold in `layer`, before any first key was skipped, as int32 tensors [P, …]."""
        index = slots.long()
        rows = [x[layer, index].view(torch.int32) for x in (self.k, self.v)]
        bits = [] if self.evicted is None else [self.evicted[layer, index]]
        return [*rows, self.lengths[layer, index], *bits]

    def put(self, layer: int, slots: Tensor, held: list[Tensor]) -> None:
        """Makes `slots` [P] hold in `layer` what `take` gave, of a store of the same shape."""
        index = slots.long()
        k, v, self.lengths[layer, index], *bits = held
        self.k[layer, index], self.v[layer, index] = k.view(self.k.dtype), v.view(self.v.dtype)
        if self.evicted is not None:
            (self.evicted[layer, index],) = bits

    def held(self, slots: Tensor) -> float:
        """Keys in `slots` [K], mean over layers and kv-heads; waits for the device."""
        return float(self.lengths[:, slots.long()].double().mean((0, 2)).sum())

    def rows(self, layer: int) -> KVRows:
        """The layer as the ops read it."""
        return KVRows(
            k_rows=self.k[layer].flatten(0, 2),
            v_rows=self.v[layer].flatten(0, 2),
            starts=self.starts,
            lengths=self.lengths[layer],
            evicted=None if self.evicted is None else self.evicted[layer],
            longest=self.capacity,
        )

    def nbytes(self) -> int:
        """Bytes of keys and values; starts, lengths and bits are not in it."""
        return sum(x.numel() * x.element_size() for x in (self.k, self.v))

    # what the mask helpers of transformers ask of a cache; the plan needs no mask
    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return query_length, 0
