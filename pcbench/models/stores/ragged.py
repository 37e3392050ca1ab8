"""One request's keys and values where every layer and kv-head keeps its own number: a cache that transformers takes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from pcbench.types import KVRows, ModelSpec, Segments

__all__ = ["RaggedStore"]

# rows that segments without room are given at least
MORE = 64


class RaggedStore(Cache):  # type: ignore[misc]
    """One arena of rows a layer, divided into a segment a batch row and kv-head.

    The prompt's forward stores nothing by itself: `update` hands keys and values on, and the method's plan says by
    `fill` which of them stay. Later forwards append behind every segment; a single token whose segment has reached
    its limit overwrites the row named in `victims`. An arena without room left is replaced by a larger one.

    Args:
        spec: the model.
        segments: of each layer.
        dtype: of keys and values.
        device: where they lie.
    """

    def __init__(
        self, spec: ModelSpec, segments: Sequence[Segments], *, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(layers=[])
        self.scale, self.shape = spec.scale, segments[0].kept.shape
        self.k = [torch.empty(x.rows, spec.head_dim, dtype=dtype, device=device) for x in segments]
        self.v = [torch.empty_like(k) for k in self.k]
        # of each row's token in its text
        self.positions = [torch.empty(len(k), dtype=torch.int32, device=device) for k in self.k]
        self.aside = [torch.empty(*self.shape, x.aside, spec.head_dim, dtype=dtype, device=device) for x in segments]
        self.room = [x.room.int().to(device) for x in segments]
        self.limits = [None if x.limit is None else x.limit.int().to(device) for x in segments]
        # known without asking the device: rows of the longest segment, free ones of the fullest
        self.longest = [x.longest for x in segments]
        self.free = [int(x.room.min()) for x in segments]
        # no segment can need another row for a single token
        self.complete = [x.complete for x in segments]
        empty = torch.zeros(self.shape, dtype=torch.int32, device=device)
        self.starts, self.sizes, self.lengths = [[empty for _ in segments] for _ in range(3)]
        # rows of their segments that the next token overwrites, [B, Hkv] int32
        self.victims: list[Tensor | None] = [None for _ in segments]
        # tokens read before the running forward, and with it
        self.before = self.seen = torch.zeros(self.shape[0], dtype=torch.int32, device=device)
        self.tokens = 0
        self.reads_prompt = True

    def expect(self, lengths: Tensor) -> None:
        """[B] int32 valid rows of the forward that comes next."""
        self.valid = lengths

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Takes [B, Hkv, T, D] rows of one layer; those of the prompt wait for `fill`."""
        if layer_idx == 0:
            self.reads_prompt = self.tokens == 0
            self.before, self.seen = self.seen, self.seen + self.valid
            self.tokens += key_states.shape[2]
        if not self.reads_prompt:
            self._append(layer_idx, *(x.to(self.k[0].device) for x in (key_states, value_states)))
        return key_states, value_states

    def fill(
        self, layer: int, k: Tensor, v: Tensor, index: Tensor, lengths: Tensor, positions: Tensor | None = None
    ) -> None:
        """Stores what stays of a layer's prompt.

        Args:
            layer: whose.
            k, v: [B, Hkv, S, D], every key and value of the prompt.
            index: [B, Hkv, C] int32, the rows of each kv-head that stay, ascending, −1 behind the last.
            lengths: [B, Hkv] int32, how many; their sum is that of the layer's `Segments.kept`.
            positions: [B, S] int32, where each row stands in its text; None means 0…S−1.
        """
        self.lengths[layer] = lengths
        segment, offset = self._divide(layer, lengths + self.room[layer], len(self.k[layer]))
        rows, dim = k.shape[2:]
        # a row without a key yet holds a copy of some key
        place = index.flatten(0, 1)[segment, offset.clamp_max(index.shape[2] - 1)].clamp_min(0).long()
        source = segment * rows + place
        self.k[layer].copy_(k.reshape(-1, dim)[source])
        self.v[layer].copy_(v.reshape(-1, dim)[source])
        self.positions[layer].copy_(place if positions is None else positions[segment // k.shape[1], place])

    def _divide(self, layer: int, sizes: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """Gives each segment its `sizes` [B, Hkv] of `rows`; of every row its segment and its place there, int64."""
        size = sizes.flatten().long()
        starts = size.cumsum(0) - size
        segment = torch.arange(len(size), device=size.device).repeat_interleave(size, output_size=rows)
        self.starts[layer], self.sizes[layer] = starts.int().view(self.shape), sizes
        return segment, torch.arange(rows, device=size.device) - starts[segment]

    def _append(self, layer: int, k: Tensor, v: Tensor) -> None:
        count, lengths, limit = k.shape[2], self.lengths[layer], self.limits[layer]
        if self.free[layer] < count and not (count == 1 and self.complete[layer]):
            self._enlarge(layer, max(count, MORE))
        self.free[layer] = max(0, self.free[layer] - count)
        first, victims = lengths, self.victims[layer]
        grown = torch.full_like(lengths, count)
        if count == 1 and limit is not None and victims is not None:
            full = lengths >= limit
            first, grown = torch.where(full, victims, lengths), (~full).int()
        step = torch.arange(count, dtype=torch.int32, device=k.device)
        place = ((self.starts[layer] + first)[..., None] + step).flatten().long()
        self.k[layer][place] = k.reshape(-1, k.shape[3])
        self.v[layer][place] = v.reshape(-1, v.shape[3])
        now = (self.before[:, None] + step)[:, None].expand(-1, self.shape[1], -1)
        self.positions[layer][place] = now.flatten()
        self.lengths[layer] = lengths + grown

    def _enlarge(self, layer: int, more: int) -> None:
        """Gives every segment of a layer `more` rows of room, in a new arena."""
        starts, held = self.starts[layer].flatten().long(), self.lengths[layer].flatten().long()
        rows = len(self.k[layer]) + len(starts) * more
        segment, offset = self._divide(layer, self.sizes[layer] + more, rows)
        source = starts[segment] + torch.minimum(offset, (held - 1).clamp_min(0)[segment])
        for arena in (self.k, self.v, self.positions):
            arena[layer] = arena[layer][source.clamp_max(len(arena[layer]) - 1)]
        self.free[layer] += more
        self.longest[layer] += more

    def rows(self, layer: int) -> KVRows:
        """The layer as the ops read it: batch row b reads slot b."""
        return KVRows(
            k_rows=self.k[layer],
            v_rows=self.v[layer],
            starts=self.starts[layer],
            lengths=self.lengths[layer],
            evicted=None,
            longest=self.longest[layer],
        )

    def nbytes(self) -> int:
        """Bytes of keys and values; starts, lengths and positions are not in it."""
        return sum(x.numel() * x.element_size() for x in (*self.k, *self.v, *self.aside))

    # what transformers asks of a cache: tokens read, not tokens stored; the plan needs no mask
    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.tokens

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return self.tokens

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return self.tokens + query_length, 0
