"""One request's keys and values where every layer and kv-head keeps its own number: a cache that transformers takes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from pcbench.models.stores.codes import CodeArena
from pcbench.models.stores.shared import SharedKeys, divided
from pcbench.types import KV_BLOCK, KVRows, ModelSpec, Segments

__all__ = ["RaggedStore"]

# rows that segments without room are given at least
MORE = 64


class RaggedStore(Cache):  # type: ignore[misc]
    """One arena of rows a layer, divided into a segment a batch row and kv-head.

    The prompt's forward stores nothing by itself: `update` hands keys and values on, and the method's plan says by
    `fill` which of them stay. Later forwards append behind every segment; a single token whose segment has reached
    its limit overwrites the row named in `victims`. An arena without room left is replaced by a larger one.

    While there is room, appending a token changes tensors where they lie and asks no other numbers of the host than
    the token before did, so that a graph of one step is a graph of the next.

    Where kv-heads share keys (`Segments.key_heads`), keys have an arena of their own with fewer segments, which `share`
    names before `fill`; starts, sizes, lengths and positions are those of the values.

    Where a layer is quantised (`Segments.kv_dtype`), whole blocks of what stays of the prompt are codes; the arena has
    the rest of it and what is appended, and starts, sizes, lengths and positions are those of the arena.

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
        self.k, self.v = (
            [torch.empty(rows, spec.head_dim, dtype=dtype, device=device) for rows in arenas]
            for arenas in ([x.key_rows for x in segments], [x.rows for x in segments])
        )
        self.codes = [
            None if x.kv_dtype is None else CodeArena(x.code_rows, spec.head_dim, x.kv_dtype, device) for x in segments
        ]
        # rows of the arena that the prompt's last keys have, where the others are codes
        self.tails = [None if x.kv_dtype is None else x.tail.int().to(device) for x in segments]
        self.key_heads = [x.key_heads for x in segments]
        self.shared: list[SharedKeys | None] = [None for _ in segments]
        # of each row's token in its text
        self.positions = [torch.empty(len(v), dtype=torch.int32, device=device) for v in self.v]
        self.aside = [torch.empty(*self.shape, x.aside, spec.head_dim, dtype=dtype, device=device) for x in segments]
        # what keys received of the queries that decoding goes by
        self.masses = [
            torch.zeros(x.masses, *self.shape, x.longest, dtype=torch.float32, device=device) for x in segments
        ]
        self.room = [x.room.int().to(device) for x in segments]
        self.limits = [None if x.limit is None else x.limit.int().to(device) for x in segments]
        # known without asking the device, of every segment: its rows at most, and the free ones
        self.capacity: list[list[int]] = [x.capacity.flatten().tolist() for x in segments]
        self.free: list[list[int]] = [x.room.flatten().tolist() for x in segments]
        # rows that it still lacks up to its limit; None without limits
        self.lacking = [x.lacking for x in segments]
        self.longest = [x.longest for x in segments]
        empty = torch.zeros(self.shape, dtype=torch.int32, device=device)
        self.starts, self.sizes, self.lengths = [[empty for _ in segments] for _ in range(3)]
        # rows of their segments that the next token overwrites, [B, Hkv] int32
        self.victims: list[Tensor | None] = [None for _ in segments]
        # tokens read before the running forward, and with it
        self.before, self.seen = (torch.zeros(self.shape[0], dtype=torch.int32, device=device) for _ in range(2))
        # the same of the longest row, known without asking the device, and on it
        self.tokens, self.read = 0, torch.zeros(1, dtype=torch.int64, device=device)
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
            self.before.copy_(self.seen)
            self.seen += self.valid
            self.tokens += key_states.shape[2]
            self.read += key_states.shape[2]
        if not self.reads_prompt:
            self._append(layer_idx, *(x.to(self.k[0]) for x in (key_states, value_states)))
        return key_states, value_states

    def allow(self, tokens: int) -> None:
        """Moves the limits of all segments: a question has so many tokens more, or fewer, than there is room for."""
        self.limits = [limit if limit is None else limit + tokens for limit in self.limits]
        self.lacking = [rows and [max(0, x + tokens) for x in rows] for rows in self.lacking]

    def share(self, layer: int, heads: Tensor) -> None:
        """Says before `fill` whose keys each kv-head of a layer reads.

        Args:
            layer: whose.
            heads: [B, Hkv] int64, `Segments.key_heads` different ones in each row; one that is read reads its own.
        """
        count = self.key_heads[layer]
        assert count is not None, "segments without key_heads"
        self.shared[layer] = SharedKeys(heads, count)

    def heads(self, layer: int) -> Tensor | None:
        """What `share` was told; None where each kv-head has keys of its own."""
        shared = self.shared[layer]
        return None if shared is None else shared.heads

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
        codes, tail = self.codes[layer], self.tails[layer]
        coded = torch.zeros_like(lengths) if codes is None else lengths // KV_BLOCK * KV_BLOCK
        if codes is not None:
            codes.fill(k, v, index, coded)
        # whose it was may go on with it
        self.lengths[layer] = lengths - coded
        sizes = (self.lengths[layer] if tail is None else tail) + self.room[layer]
        segment, offset = self._divide(layer, sizes, len(self.v[layer]))
        rows, dim = k.shape[2:]
        # a row without a key yet holds a copy of some key
        last = (offset + coded.flatten()[segment]).clamp_max(index.shape[2] - 1)
        place = index.flatten(0, 1)[segment, last].clamp_min(0).long()
        source = segment * rows + place
        self.v[layer].copy_(v.reshape(-1, dim)[source])
        self.positions[layer].copy_(place if positions is None else positions[segment // k.shape[1], place])
        shared = self.shared[layer]
        if shared is not None:
            segment, offset = shared.divide(self.sizes[layer], len(self.k[layer]))
            source = source[shared.of_stored(self.starts[layer]).flatten()[segment] + offset]
        self.k[layer].copy_(k.reshape(-1, dim)[source])

    def _divide(self, layer: int, sizes: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """Gives each segment its `sizes` [B, Hkv] of `rows`; of every row its segment and its place there, int64."""
        self.starts[layer], segment, offset = divided(sizes, rows)
        self.sizes[layer] = sizes
        return segment, offset

    def _append(self, layer: int, k: Tensor, v: Tensor) -> None:
        count, lengths, limit = k.shape[2], self.lengths[layer], self.limits[layer]
        self._make_room(layer, count)
        first, victims = lengths, self.victims[layer]
        grown = torch.full_like(lengths, count)
        if count == 1 and limit is not None and victims is not None:
            full = lengths >= limit
            first, grown = torch.where(full, victims, lengths), (~full).int()
        step = torch.arange(count, dtype=torch.int32, device=k.device)
        place = ((self.starts[layer] + first)[..., None] + step).flatten().long()
        self.v[layer][place] = v.reshape(-1, v.shape[3])
        now = (self.before[:, None] + step)[:, None].expand(-1, self.shape[1], -1)
        self.positions[layer][place] = now.flatten()
        shared = self.shared[layer]
        if shared is not None:
            k = shared.of_stored(k)
            place = ((shared.starts + shared.of_stored(first))[..., None] + step).flatten().long()
        self.k[layer][place] = k.reshape(-1, k.shape[3])
        lengths += grown

    def name_victims(self, layer: int, rows: Tensor) -> None:
        """Says which row of each segment of a layer the next token overwrites: rows [B, Hkv] int32."""
        victims = self.victims[layer]
        if victims is None:
            self.victims[layer] = rows
        else:
            victims.copy_(rows)

    def _make_room(self, layer: int, count: int) -> None:
        """Enlarges the segments of a layer that `count` tokens do not fit into."""
        free, lacking = self.free[layer], self.lacking[layer]
        if min(free) < count:
            more = [max(count, MORE)] * len(free)
            if count == 1 and lacking is not None:
                # one by one, tokens fill a segment to its limit and no further
                more = [min(x, MORE) for x in lacking]
            more = [x if rows < count else 0 for x, rows in zip(more, free, strict=True)]
            if any(more):
                self._enlarge(layer, more)
        self.free[layer] = [max(0, rows - count) for rows in self.free[layer]]

    def _enlarge(self, layer: int, more: list[int]) -> None:
        """Gives each segment of a layer its part of `more` rows, in new arenas; those that share keys get as many."""
        starts, lengths, shared = self.starts[layer], self.lengths[layer], self.shared[layer]
        sizes, rows = self.sizes[layer] + lengths.new_tensor(more).view(self.shape), len(self.v[layer]) + sum(more)
        source = _before(starts, lengths, *self._divide(layer, sizes, rows))
        for arena in (self.v, self.positions):
            arena[layer] = arena[layer][source.clamp_max(len(arena[layer]) - 1)]
        if shared is not None:
            starts, rows = shared.starts, len(self.k[layer]) + shared.starts.numel() * max(more)
            source = _before(starts, shared.of_stored(lengths), *shared.divide(sizes, rows))
        self.k[layer] = self.k[layer][source.clamp_max(len(self.k[layer]) - 1)]
        lacking, before = self.lacking[layer], self.longest[layer]
        self.free[layer], self.capacity[layer] = (
            [x + y for x, y in zip(rows, more, strict=True)] for rows in (self.free[layer], self.capacity[layer])
        )
        self.lacking[layer] = lacking and [max(0, x - y) for x, y in zip(lacking, more, strict=True)]
        self.longest[layer] = max(self.capacity[layer])
        self.masses[layer] = torch.nn.functional.pad(self.masses[layer], (0, self.longest[layer] - before))

    def reorder(self, layer: int, order: Tensor) -> None:
        """Row i of a layer becomes a copy of what row order[i] was, which is as large; order is [B] int64."""
        assert self.shared[layer] is None, "a store of keys of its own"
        assert self.codes[layer] is None, "a store that is not quantised"
        starts, lengths = self.starts[layer][order], self.lengths[layer][order]
        source = _before(starts, lengths, *self._divide(layer, self.sizes[layer][order], len(self.v[layer])))
        for arena in (self.k, self.v, self.positions):
            arena[layer] = arena[layer][source]
        self.lengths[layer] = lengths

    def rows(self, layer: int) -> KVRows:
        """The layer as the ops read it: batch row b reads slot b."""
        shared, codes = self.shared[layer], self.codes[layer]
        return KVRows(
            k_rows=self.k[layer],
            v_rows=self.v[layer],
            starts=self.starts[layer] if shared is None else shared.read,
            lengths=self.lengths[layer],
            evicted=None,
            longest=self.longest[layer],
            v_starts=None if shared is None else self.starts[layer],
            quantized=None if codes is None else codes.rows(),
        )

    def held(self, layer: int) -> Tensor:
        """[B, Hkv] int32: tokens that a layer holds."""
        codes = self.codes[layer]
        return self.lengths[layer] + (0 if codes is None else codes.lengths)

    def nbytes(self) -> int:
        """Bytes of keys, values, their scales and masses; starts, lengths and positions are not in it."""
        held = (*self.k, *self.v, *self.aside, *self.masses)
        codes = sum(x.held.nbytes() for x in self.codes if x is not None)
        return codes + sum(x.numel() * x.element_size() for x in held)

    # what transformers asks of a cache: tokens read, not tokens stored; the plan needs no mask
    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.tokens

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return self.tokens

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return self.tokens + query_length, 0


def _before(starts: Tensor, lengths: Tensor, segment: Tensor, offset: Tensor) -> Tensor:
    """Where the rows of an arena that was divided anew stood before; one without a key yet repeats the last one."""
    held = (lengths.flatten().long() - 1).clamp_min(0)
    return starts.flatten().long()[segment] + torch.minimum(offset, held[segment])
