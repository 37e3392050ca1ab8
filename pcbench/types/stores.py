"""Where keys and values lie: stores of one request, as methods and ops see them."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from pcbench.types.kv_dtypes import KV_BLOCK, KVDtype, code_bytes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["KVRows", "KVStore", "QuantizedRows", "RaggedKVStore", "Segments"]


@dataclass(frozen=True, eq=False)
class QuantizedRows:
    """Quantised rows of one layer (see `pcbench.reference.quantized`); kv-heads and slots are those of `KVRows`."""

    k_codes: "Tensor"  # [T, D|D/2]
    v_codes: "Tensor"  # [T, D|D/2]
    k_scales: "Tensor"  # [T/64, D] bfloat16
    v_scales: "Tensor"  # [T] bfloat16
    starts: "Tensor"  # [N, Hkv] int32
    lengths: "Tensor"  # [N, Hkv] int32
    k_zeros: "Tensor | None" = None  # [T/64, D] bfloat16, of int4
    v_zeros: "Tensor | None" = None  # [T] bfloat16, of int4


@dataclass(frozen=True, eq=False)
class KVRows:
    """One layer of a store as the ops read it (see `pcbench.reference.attention`)."""

    k_rows: "Tensor"  # [T, D]
    v_rows: "Tensor"  # [T, D]
    starts: "Tensor"  # [N, Hkv] int32
    lengths: "Tensor"  # [N, Hkv] int32
    evicted: "Tensor | None"  # [N, H, W] int32
    longest: int  # rows a segment can hold
    v_starts: "Tensor | None" = None  # [N, Hkv] int32, where values have starts of their own
    quantized: QuantizedRows | None = None  # more keys of the same slots, evicted by the same bits


@dataclass(frozen=True, eq=False)
class Segments:
    """What a layer of a ragged store keeps for each batch row and kv-head; [B, Hkv] int64 on the CPU.

    Args:
        kept: keys of the prompt that stay.
        room: rows behind them for later tokens.
        limit: keys at which a segment grows no more, and a new token takes an evicted one's row; None grows.
        shared: the kv-heads of a row divide their `kept` among themselves.
        wanted: budgets, of which a short prompt fills less; None where `kept` is what was wanted.
        aside: first keys of each segment that are stored once more, as they were read.
        key_heads: kv-heads of a row whose keys are stored, for the others to read too: all kv-heads of a row keep the
            same; None stores the keys of each.
        masses: float32 numbers beside each row: what its key received, of so many queries or sums of them.
        kv_dtype: whole blocks of KV_BLOCK `kept` keys are quantised, and the arena has the rest; None quantises none.
    """

    kept: "Tensor"
    room: "Tensor"
    limit: "Tensor | None" = None
    shared: bool = False
    wanted: "Tensor | None" = None
    aside: int = 0
    key_heads: int | None = None
    masses: int = 0
    kv_dtype: KVDtype | None = None

    @property
    def tail(self) -> "Tensor":
        """[B, Hkv] rows that the arena has for `kept` keys."""
        if self.kv_dtype is None:
            return self.kept
        return self.kept.new_full(self.kept.shape, KV_BLOCK - 1) if self.shared else self.kept % KV_BLOCK

    @property
    def code_rows(self) -> int:
        """Quantised rows of all segments, whole blocks."""
        if self.kv_dtype is None:
            return 0
        kept = self.kept.sum(1) if self.shared else self.kept
        return int((kept // KV_BLOCK * KV_BLOCK).sum())

    @property
    def rows(self) -> int:
        """Of all segments in the arena, for values."""
        return int((self.tail + self.room).sum())

    @property
    def key_rows(self) -> int:
        """Of all segments in the arena, for keys."""
        return int((self.tail + self.room)[:, : self.key_heads].sum())

    @property
    def vectors(self) -> int:
        """Keys and values that the arena has room for."""
        return self.key_rows + self.rows + self.aside * self.kept.numel()

    def vector_bytes(self, dim: int, itemsize: int) -> int:
        """Of keys and values, `dim` numbers each."""
        codes = 0 if self.kv_dtype is None else code_bytes(self.kv_dtype, self.code_rows, dim)
        return self.vectors * dim * itemsize + codes

    def nbytes(self, dim: int, itemsize: int) -> int:
        """The same with masses, which have the longest segment's rows in each."""
        return self.vector_bytes(dim, itemsize) + 4 * self.masses * self.longest * self.kept.numel()

    def with_room(self, tokens: int) -> "Segments":
        """The same with room for so many later tokens."""
        return replace(self, room=self.room.new_full(self.room.shape, tokens))

    @property
    def capacity(self) -> "Tensor":
        """Rows of each segment in the arena at most."""
        shared = self.shared and self.kv_dtype is None
        return (self.kept.sum(1, keepdim=True) if shared else self.tail) + self.room

    @property
    def longest(self) -> int:
        """Rows of a segment at most."""
        return int(self.capacity.max())

    @property
    def lacking(self) -> list[int] | None:
        """Rows that each segment, [B·Hkv], has too few up to its limit; None without limits."""
        if self.limit is None:
            return None
        lacking: list[int] = (self.limit - self.kept - self.room).clamp_min(0).flatten().tolist()
        return lacking


class KVStore(Protocol):
    """One request's keys and values, all layers, in slots."""

    def begin(self, slots: "Tensor", rows: "Tensor | int | None" = None) -> None:
        """Empties `slots`; forwards from now on write there, each behind what the last one left.

        Args:
            slots: [M] int32 on the device.
            rows: [M] int32 or one number: leading rows of the next forward to keep (0: none, `select` will);
                None keeps every valid row.
        """
        ...

    def expect(self, lengths: "Tensor") -> None:
        """[M] int32 valid rows of the forward that comes next."""
        ...

    def select(self, layer: int, k: "Tensor", v: "Tensor", lengths: "Tensor") -> None:
        """Replaces what the slots hold in `layer` by a selection: k, v [M, Hkv, C, D], lengths [M, Hkv] int32."""
        ...

    def evict(self, layer: int, slots: "Tensor", bits: "Tensor") -> None:
        """Hides keys: bits [M, H, W] int32 are added to those of `slots` [M]."""
        ...

    def keep(self, layer: int, slots: "Tensor", kept: "Tensor") -> None:
        """Keeps of `slots` [P] int32 in `layer` only the rows where kept [P, Hkv, L] is true, moved to the front."""
        ...

    def skip_first(self, slots: "Tensor", where: "Tensor") -> None:
        """Drops the first key of those of `slots` [K] int32 for which `where` [K] is true."""
        ...

    def take(self, layer: int, slots: "Tensor") -> "list[Tensor]":
        """Copies of what `slots` [P] int32 hold in `layer`, as int32 tensors [P, …]."""
        ...

    def put(self, layer: int, slots: "Tensor", held: "list[Tensor]") -> None:
        """Makes `slots` [P] int32 hold in `layer` what `take` gave."""
        ...

    def held(self, slots: "Tensor") -> float:
        """Keys in `slots`, mean over layers and kv-heads; waits for the device."""
        ...

    def rows(self, layer: int) -> KVRows: ...
    def nbytes(self) -> int: ...


class RaggedKVStore(Protocol):
    """One request's keys and values where each layer and kv-head holds its own number: a `RaggedStore`.

    Args:
        shape: batch rows and kv-heads, (B, Hkv).
        scale: of the attention scores.
        starts, lengths: of each layer, [B, Hkv] int32, a segment's first row in the arena and its keys.
        positions: of each layer, [rows] int32, where each row's token stands in its text.
        aside: of each layer, [B, Hkv, `Segments.aside`, D], first keys as they were read, for whoever moves them.
        victims: of each layer, [B, Hkv] int32, the row of each full segment that the next token overwrites.
        masses: of each layer, [`Segments.masses`, B, Hkv, L] float32, what the keys of each segment received.
        seen: [B] int32, tokens of each text that have been read.
        tokens: the same of the longest one, known without asking the device.
        read: [1] int64, the same on the device.

    Forwards change the tensors of `lengths`, `seen` and `read` where they lie.
    """

    shape: tuple[int, int]
    scale: float
    starts: "list[Tensor]"
    lengths: "list[Tensor]"
    positions: "list[Tensor]"
    aside: "list[Tensor]"
    victims: "list[Tensor | None]"
    masses: "list[Tensor]"
    seen: "Tensor"
    tokens: int
    read: "Tensor"

    def expect(self, lengths: "Tensor") -> None:
        """[B] int32 valid rows of the forward that comes next."""
        ...

    def allow(self, tokens: int) -> None:
        """Moves the limits of all segments: a question has so many tokens more, or fewer, than there is room for."""
        ...

    def share(self, layer: int, heads: "Tensor") -> None:
        """Says before `fill` whose keys each kv-head of a layer reads: heads [B, Hkv] int64."""
        ...

    def heads(self, layer: int) -> "Tensor | None":
        """[B, Hkv] int64: what `share` was told; None where each kv-head has keys of its own."""
        ...

    def fill(
        self,
        layer: int,
        k: "Tensor",
        v: "Tensor",
        index: "Tensor",
        lengths: "Tensor",
        positions: "Tensor | None" = None,
    ) -> None:
        """Stores the rows `index` [B, Hkv, C] of a layer's k, v [B, Hkv, S, D], `lengths` [B, Hkv] of each."""
        ...

    def held(self, layer: int) -> "Tensor":
        """[B, Hkv] int32: tokens that a layer holds."""
        ...

    def name_victims(self, layer: int, rows: "Tensor") -> None:
        """Says what of a layer stands in `victims`."""
        ...

    def rows(self, layer: int) -> KVRows: ...
    def nbytes(self) -> int: ...
