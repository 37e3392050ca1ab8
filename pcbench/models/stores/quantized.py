"""A slotted store whose slots are quantised as they are written."""

from typing import Any

import torch
from torch import Tensor

from pcbench.models.stores.codes import CodeRows
from pcbench.models.stores.slots import SlotCache
from pcbench.types import KV_BLOCK, KVDtype, KVRows, ModelSpec

__all__ = ["QuantizedSlotCache"]


class QuantizedSlotCache(SlotCache):
    """Slots of codes, and a tail in the model's dtype for the one slot that grows.

    Rows that `begin` limits and selections are quantised as they are written. A slot begun without a limit grows token
    by token; its rows are the tail. There is one such slot at a time. Lengths and starts are those of the codes.

    Args:
        spec, slots, evictions, kv_heads, dtype, device: as of `SlotCache`.
        capacity: rows of a segment of codes, a multiple of KV_BLOCK.
        kv_dtype: of the codes.
        tail: rows of the slot that grows.
    """

    def __init__(
        self, spec: ModelSpec, slots: int, capacity: int, *, kv_dtype: KVDtype, tail: int, **like: Any
    ) -> None:
        self.kv_dtype, self.tail = kv_dtype, tail
        super().__init__(spec, slots, capacity, bits_for=max(capacity, tail), **like)
        self.tail_starts = (self.heads * tail).int().expand(slots, -1).contiguous()
        self.tail_lengths = torch.zeros_like(self.lengths)

    def _allocate(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        layers, slots, kv_heads, capacity, dim = shape
        self.codes = CodeRows((layers, slots, kv_heads), capacity, dim, self.kv_dtype, device)
        tail = (layers, kv_heads, self.tail, dim)
        self.k, self.v = (torch.empty(tail, dtype=dtype, device=device) for _ in range(2))

    def begin(self, slots: Tensor, rows: Tensor | int | None = None) -> None:
        """As of `SlotCache`; without `rows` the one slot becomes the tail."""
        super().begin(slots, rows)
        self.tail_lengths[:, self.slots] = 0

    def _write_first(self, layer: int, k: Tensor, v: Tensor) -> None:
        rows = self.row_limit
        if rows is None:
            self._append(layer, k, v)
        elif not isinstance(rows, int):
            self.select(layer, k, v, rows[:, None].expand(-1, k.shape[1]))
        elif rows:
            self.select(layer, k, v, torch.full(k.shape[:2], rows, dtype=torch.int32, device=k.device))

    def _append(self, layer: int, k: Tensor, v: Tensor) -> None:
        held = self.tail_lengths[layer, self.slots]  # [1, Hkv]
        place = (self.heads[:, None], held.T + torch.arange(k.shape[2], device=k.device))
        self.k[layer][place], self.v[layer][place] = k[0], v[0]
        self.tail_lengths[layer, self.slots] = held + self.valid[:, None]

    def select(self, layer: int, k: Tensor, v: Tensor, lengths: Tensor) -> None:
        """As of `SlotCache`, quantised."""
        written = min(k.shape[2], self.capacity)
        behind = -written % KV_BLOCK
        k, v = (torch.nn.functional.pad(x[:, :, :written], (0, 0, 0, behind)) for x in (k, v))
        for to, x in zip(self.codes.tensors, self.codes.encode(k, v, lengths), strict=True):
            to[layer, self.slots, :, : x.shape[2]] = x
        self.lengths[layer, self.slots] = lengths

    def keep(self, layer: int, slots: Tensor, kept: Tensor) -> None:
        """Refused: moved keys would have other scales."""
        raise NotImplementedError("a quantised store moves no rows")

    def take(self, layer: int, slots: Tensor) -> list[Tensor]:
        """As of `SlotCache`."""
        index = slots.long()
        rows = [x[layer, index].view(torch.int32) for x in self.codes.tensors]
        bits = [] if self.evicted is None else [self.evicted[layer, index]]
        return [*rows, self.lengths[layer, index], *bits]

    def put(self, layer: int, slots: Tensor, held: list[Tensor]) -> None:
        """As of `SlotCache`."""
        index, tensors = slots.long(), self.codes.tensors
        for to, x in zip(tensors, held, strict=False):
            to[layer, index] = x.view(to.dtype)
        self.lengths[layer, index], *bits = held[len(tensors) :]
        if self.evicted is not None:
            (self.evicted[layer, index],) = bits

    def rows(self, layer: int) -> KVRows:
        """The layer as the ops read it: the tail, and codes beside it."""
        return KVRows(
            k_rows=self.k[layer].flatten(0, 1),
            v_rows=self.v[layer].flatten(0, 1),
            starts=self.tail_starts,
            lengths=self.tail_lengths[layer],
            evicted=None if self.evicted is None else self.evicted[layer],
            longest=self.tail,
            quantized=self.codes.rows(self.starts, self.lengths[layer], layer),
        )

    def nbytes(self) -> int:
        """Bytes of codes, scales and the tail."""
        return super().nbytes() + self.codes.nbytes()
