"""Quantised rows of a store."""

from math import prod

import torch
from torch import Tensor

from pcbench.reference.quantized import CODES, Codes, quantize_keys, quantize_values
from pcbench.types import KV_BLOCK, KVDtype, QuantizedRows

__all__ = ["CodeArena", "CodeRows"]


class CodeRows:
    """Codes, scales and zeros of keys and values [*lead, R, D], R a multiple of KV_BLOCK.

    Args:
        lead: leading dimensions.
        rows: R.
        dim: D.
        kv_dtype: their format.
        device: where they lie.
    """

    def __init__(self, lead: tuple[int, ...], rows: int, dim: int, kv_dtype: KVDtype, device: torch.device) -> None:
        self.kv_dtype, blocks = kv_dtype, rows // KV_BLOCK
        width = dim // 2 if kv_dtype == "int4" else dim

        def made(sides: tuple[int, ...]) -> Codes:
            scales = [torch.zeros(*lead, *sides, dtype=torch.bfloat16, device=device) for _ in range(2)]
            rows_of_codes = torch.zeros(*lead, rows, width, dtype=CODES[kv_dtype], device=device)
            return Codes(rows_of_codes, scales[0], scales[1] if kv_dtype == "int4" else None)

        self.k, self.v = made((blocks, dim)), made((rows,))

    @property
    def tensors(self) -> list[Tensor]:
        """All that is held."""
        return [x for side in (self.k, self.v) for x in (side.codes, side.scales, side.zeros) if x is not None]

    def encode(self, k: Tensor, v: Tensor, lengths: Tensor) -> list[Tensor]:
        """What `tensors` hold of k, v [..., S, D], S a multiple of KV_BLOCK, of which lengths [...] rows are valid."""
        found = (quantize_keys(k, self.kv_dtype, lengths), quantize_values(v, self.kv_dtype))
        return [x for side in found for x in (side.codes, side.scales, side.zeros) if x is not None]

    def rows(self, starts: Tensor, lengths: Tensor, layer: int | None = None) -> QuantizedRows:
        """As the ops read them, of the layer that the first leading dimension names."""

        def flat(x: Tensor, inner: int) -> Tensor:
            x = x if layer is None else x[layer]
            return x.reshape(prod(x.shape[: x.dim() - inner]), *x.shape[x.dim() - inner :])

        k, v = self.k, self.v
        return QuantizedRows(
            k_codes=flat(k.codes, 1),
            v_codes=flat(v.codes, 1),
            k_scales=flat(k.scales, 1),
            v_scales=flat(v.scales, 0),
            k_zeros=None if k.zeros is None else flat(k.zeros, 1),
            v_zeros=None if v.zeros is None else flat(v.zeros, 0),
            starts=starts,
            lengths=lengths,
        )

    def nbytes(self) -> int:
        """Of codes, scales and zeros."""
        return sum(x.numel() * x.element_size() for x in self.tensors)


class CodeArena:
    """Quantised rows of one layer, divided into a segment of whole blocks a batch row and kv-head.

    Args:
        rows: of all segments, at least.
        dim: D.
        kv_dtype: their format.
        device: where they lie.
    """

    def __init__(self, rows: int, dim: int, kv_dtype: KVDtype, device: torch.device) -> None:
        self.held = CodeRows((), rows, dim, kv_dtype, device)
        self.rows_held = rows

    def fill(self, k: Tensor, v: Tensor, index: Tensor, lengths: Tensor) -> None:
        """Stores the first rows of those that stay.

        Args:
            k, v: [B, Hkv, S, D].
            index: [B, Hkv, C] int32, the rows of each kv-head that stay, ascending, −1 behind the last.
            lengths: [B, Hkv] int32, how many of them, multiples of KV_BLOCK with a sum of the arena's rows at most.
        """
        self.lengths, sizes = lengths, lengths.flatten().long()
        ends = sizes.cumsum(0)
        starts = ends - sizes
        self.starts = starts.int().view(lengths.shape)
        if not self.rows_held:
            return
        row = torch.arange(self.rows_held, device=k.device)
        # rows behind the last segment hold what nobody reads
        segment = torch.searchsorted(ends, row, right=True).clamp_max(len(sizes) - 1)
        offset = (row - starts[segment]).clamp_max(index.shape[2] - 1)
        source = segment * k.shape[2] + index.flatten(0, 1)[segment, offset].clamp_min(0).long()
        stay = (x.reshape(-1, x.shape[3])[source] for x in (k, v))
        found = self.held.encode(*stay, torch.full((), self.rows_held, device=k.device))
        for to, x in zip(self.held.tensors, found, strict=True):
            to.copy_(x)

    def rows(self) -> QuantizedRows | None:
        """As the ops read them; None without rows."""
        return self.held.rows(self.starts, self.lengths) if self.rows_held else None
