"""Shapes of single ops: their numbers, the work in them, and seeded inputs."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from pcbench.config import Count, Table
from pcbench.measure.kernels.attention_cases import cached, calibrated, decode, merge, window
from pcbench.measure.kernels.chunk_cases import chunk_select, nll, select, topk_random
from pcbench.measure.kernels.draws import Draws
from pcbench.measure.kernels.dual_chunk_cases import dual_chunk
from pcbench.measure.kernels.key_mass_cases import key_mass
from pcbench.measure.kernels.quantized_cases import quantized
from pcbench.types import KV_BLOCK, KVDtype, code_bytes

__all__ = ["SHAPES", "Shape", "Work"]

FLOAT32 = INT32 = 4


@dataclass(frozen=True)
class Work:
    """What any implementation of the op must do.

    Args:
        flops: multiplications and additions.
        bytes: read and written once.
        limit: what its rate is counted in: "flops" → TFLOP/s over the matmul rate, "bytes" → GiB/s over the
            copy bandwidth.
    """

    flops: float
    bytes: float
    limit: Literal["flops", "bytes"]


class Shape(Table):
    """An op's numbers; `str` is the record's `shape`, in the letters of the docstrings."""

    def __str__(self) -> str:
        """`B1 H32 Hkv8 S4096 D128`."""
        return " ".join(self.words())

    @abstractmethod
    def words(self) -> list[str]:
        """Letter and number of each."""

    @abstractmethod
    def work(self, itemsize: int) -> Work:
        """Operations and bytes with inputs of `itemsize` bytes an element."""

    @abstractmethod
    def inputs(self, draw: Draws) -> dict[str, Any]:
        """Arguments of the op by name."""


class CalibratedAttention(Shape):
    """4·B·H·Q·S·D operations, causal the half of the square; the mass is not counted."""

    batch: Count = 1
    heads: Count
    kv_heads: Count
    rows: Count | None = None
    keys: Count
    dim: Count
    causal: bool = True
    mass_rows: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0

    def words(self) -> list[str]:
        rows = self.rows or self.keys
        found = [f"B{self.batch}", f"H{self.heads}", f"Hkv{self.kv_heads}", f"Q{rows}", f"S{self.keys}", f"D{self.dim}"]
        return [*found, *(["causal"] if self.causal else []), *([f"r{self.mass_rows}"] if self.mass_rows else [])]

    def work(self, itemsize: int) -> Work:
        rows = self.rows or self.keys
        pairs = rows * (self.keys - rows) + rows * rows / 2 if self.causal else rows * self.keys
        moved = self.batch * self.dim * itemsize * 2 * (self.heads * rows + self.kv_heads * self.keys)
        return Work(4.0 * self.batch * self.heads * self.dim * pairs, moved, "flops")

    def inputs(self, draw: Draws) -> dict[str, Any]:
        numbers = self.model_dump()
        return calibrated(draw, **(numbers | {"rows": self.rows or self.keys}))


class KeyMass(CalibratedAttention):
    """Keys once and the rows that are summed; the masses are written once."""

    mass_rows: Count = 8

    def work(self, itemsize: int) -> Work:
        keys = self.batch * self.keys
        rows = self.batch * self.heads * min(self.mass_rows, self.rows or self.keys)
        moved = (keys * self.kv_heads + rows) * self.dim * itemsize + (keys * self.heads + rows) * FLOAT32
        return Work(2.0 * rows * self.keys * self.dim, moved, "bytes")

    def inputs(self, draw: Draws) -> dict[str, Any]:
        return key_mass(draw, **(self.model_dump() | {"rows": self.rows or self.keys}))


class CachedAttention(Shape):
    """Each batch row reads P slots of its own: keys and values once, whatever H."""

    batch: Count = 1
    heads: Count
    kv_heads: Count
    rows: Count = 1
    slots: Count = 1
    keys: Count
    dim: Count

    def words(self) -> list[str]:
        found = [f"B{self.batch}", f"H{self.heads}", f"Hkv{self.kv_heads}", f"Q{self.rows}", f"P{self.slots}"]
        return [*found, f"S{self.keys}", f"D{self.dim}"]

    def work(self, itemsize: int) -> Work:
        cells = self.batch * self.slots * self.keys * self.kv_heads
        rows = self.batch * self.heads * self.rows
        moved = 2 * (cells + rows) * self.dim * itemsize + rows * FLOAT32
        return Work(4.0 * rows * self.slots * self.keys * self.dim, moved, "bytes")

    def store(self) -> dict[str, Any]:
        """Arguments of `cached`: every slot is full."""
        slots = [[b * self.slots + p for p in range(self.slots)] for b in range(self.batch)]
        lengths = [[self.keys] * self.kv_heads for _ in range(self.batch * self.slots)]
        return {"heads": self.heads, "rows": self.rows, "dim": self.dim, "lengths": lengths, "slots": slots}

    def inputs(self, draw: Draws) -> dict[str, Any]:
        return cached(draw, **self.store())


class QuantizedAttention(CachedAttention):
    """As of cached attention, keys and values as codes with their scales."""

    kv_dtype: KVDtype = "int8"

    def words(self) -> list[str]:
        return [*super().words(), self.kv_dtype]

    def work(self, itemsize: int) -> Work:
        cells = self.batch * self.slots * self.keys * self.kv_heads
        rows = self.batch * self.heads * self.rows
        codes = code_bytes(self.kv_dtype, KV_BLOCK, self.dim) / KV_BLOCK * cells
        moved = codes + 2 * rows * self.dim * itemsize + rows * FLOAT32
        return Work(4.0 * rows * self.slots * self.keys * self.dim, moved, "bytes")

    def inputs(self, draw: Draws) -> dict[str, Any]:
        return quantized(draw, kv_dtype=self.kv_dtype, **self.store())


class WindowMass(CachedAttention):
    """Keys once; the masses are written once."""

    rows: Count = 8

    def work(self, itemsize: int) -> Work:
        keys = self.batch * self.slots * self.keys
        rows = self.batch * self.heads * self.rows
        moved = (keys * self.kv_heads + rows) * self.dim * itemsize + (keys * self.heads + rows) * FLOAT32
        return Work(2.0 * rows * self.slots * self.keys * self.dim, moved, "bytes")

    def inputs(self, draw: Draws) -> dict[str, Any]:
        return window(draw, longest=self.keys, window=self.rows, **self.store())


class OverKeys(Shape):
    """What has as many keys in each batch row and kv-head."""

    batch: Count = 1
    heads: Count
    kv_heads: Count
    keys: Count
    dim: Count

    def words(self) -> list[str]:
        return [f"B{self.batch}", f"H{self.heads}", f"Hkv{self.kv_heads}", f"S{self.keys}", f"D{self.dim}"]


class DecodeAttention(OverKeys):
    """Keys and values once, whatever H; the masses are written once."""

    def work(self, itemsize: int) -> Work:
        cells, rows = self.batch * self.kv_heads * self.keys, self.batch * self.heads
        moved = 2 * (cells + rows) * self.dim * itemsize + (cells + rows) * FLOAT32
        return Work(4.0 * rows * self.keys * self.dim, moved, "bytes")

    def inputs(self, draw: Draws) -> dict[str, Any]:
        lengths = [[self.keys] * self.kv_heads for _ in range(self.batch)]
        return decode(draw, heads=self.heads, lengths=lengths, dim=self.dim)


class DualChunkAttention(Shape):
    """The operations of causal attention over all keys, or their bytes for one row; turning q is not counted."""

    batch: Count = 1
    heads: Count
    kv_heads: Count
    rows: Count | None = None
    keys: Count
    dim: Count
    period: Count

    def words(self) -> list[str]:
        rows = self.rows or self.keys
        found = [f"B{self.batch}", f"H{self.heads}", f"Hkv{self.kv_heads}", f"Q{rows}", f"S{self.keys}", f"D{self.dim}"]
        return [*found, f"s{self.period}"]

    def work(self, itemsize: int) -> Work:
        rows = self.rows or self.keys
        pairs = rows * (self.keys - rows) + rows * rows / 2 if rows > 1 else self.keys
        moved = self.dim * itemsize * 2 * (self.heads * rows + self.kv_heads * self.keys) + self.heads * rows * FLOAT32
        flops = 4.0 * self.batch * self.heads * self.dim * pairs
        return Work(flops, self.batch * moved, "flops" if rows > 1 else "bytes")

    def inputs(self, draw: Draws) -> dict[str, Any]:
        lengths = [[self.keys] * self.kv_heads for _ in range(self.batch)]
        rows = self.rows or self.keys
        return dual_chunk(draw, heads=self.heads, rows=rows, lengths=lengths, period=self.period, dim=self.dim)


class SelectTokens(OverKeys):
    """The masses once, the kept keys and values in and out, the index out."""

    capacity: Count
    pool: Count = 7

    def words(self) -> list[str]:
        return [*super().words(), f"keep{self.capacity}", f"pool{self.pool}"]

    def work(self, itemsize: int) -> Work:
        kept = self.batch * self.kv_heads * self.capacity
        mass = self.batch * self.heads * self.keys
        return Work(mass * self.pool, mass * FLOAT32 + kept * (4 * self.dim * itemsize + INT32), "bytes")

    def inputs(self, draw: Draws) -> dict[str, Any]:
        return select(draw, **self.model_dump())


class MergeStates(Shape):
    """Every part in, one state out, all float32."""

    parts: Count
    batch: Count = 1
    heads: Count
    rows: Count
    dim: Count

    def words(self) -> list[str]:
        return [f"P{self.parts}", f"B{self.batch}", f"H{self.heads}", f"Q{self.rows}", f"D{self.dim}"]

    def work(self, itemsize: int) -> Work:
        values = self.batch * self.heads * self.rows * (self.dim + 1)
        return Work(2.0 * self.parts * values, (self.parts + 1) * values * FLOAT32, "bytes")

    def inputs(self, draw: Draws) -> dict[str, Any]:
        return merge(draw, **self.model_dump())


class QueryNllUpdate(Shape):
    """The tile of logits and the targets once; row_max and row_sum in and out, row_target out, since all are in it."""

    rows: Count
    columns: Count

    def words(self) -> list[str]:
        return [f"X{self.rows}", f"Vt{self.columns}"]

    def work(self, itemsize: int) -> Work:
        logits = self.rows * self.columns
        return Work(2.0 * logits, logits * itemsize + self.rows * (INT32 + 5 * FLOAT32), "bytes")

    def inputs(self, draw: Draws) -> dict[str, Any]:
        inputs = nll(draw, rows=self.rows, columns=self.columns)
        return inputs | {"targets": draw.integers(self.columns, self.rows)}


class ChunkTopk(Shape):
    """Score, id and slot of every entry in and out: no more than a launch."""

    chunks: Count
    keep: Count

    def words(self) -> list[str]:
        return [f"M{self.chunks}", f"K{self.keep}"]

    def work(self, itemsize: int) -> Work:
        entries = self.chunks + self.keep
        return Work(entries, 3.0 * entries * FLOAT32 + (3 * self.keep + self.chunks) * FLOAT32, "bytes")

    def inputs(self, draw: Draws) -> dict[str, Any]:
        return topk_random(draw, keep=self.keep, count=self.chunks)


class ChunkSelect(Shape):
    """2·X·V·E operations: the matmul with the vocabulary."""

    rows: Count
    hidden: Count
    vocab: Count
    chunks: Count = 1
    keep: Count = 1

    def words(self) -> list[str]:
        return [f"X{self.rows}", f"E{self.hidden}", f"V{self.vocab}", f"M{self.chunks}", f"K{self.keep}"]

    def work(self, itemsize: int) -> Work:
        moved = (self.rows + self.vocab) * self.hidden * itemsize + self.rows * 2 * INT32
        return Work(2.0 * self.rows * self.vocab * self.hidden, moved, "flops")

    def inputs(self, draw: Draws) -> dict[str, Any]:
        rows = [(self.rows + m) // self.chunks for m in range(self.chunks)]
        return chunk_select(draw, rows=rows, vocab=self.vocab, hidden=self.hidden, keep=self.keep)


# op → the class of its shapes
SHAPES: dict[str, type[Shape]] = {
    "cached_attention": CachedAttention,
    "calibrated_attention": CalibratedAttention,
    "chunk_select": ChunkSelect,
    "chunk_topk": ChunkTopk,
    "decode_attention": DecodeAttention,
    "dual_chunk_attention": DualChunkAttention,
    "key_mass": KeyMass,
    "merge_states": MergeStates,
    "quantized_attention": QuantizedAttention,
    "query_nll_update": QueryNllUpdate,
    "select_tokens": SelectTokens,
    "window_mass": WindowMass,
}
