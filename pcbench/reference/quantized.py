"""Keys and values in fewer bits, and attention over them, in plain PyTorch.

Letters: as in `pcbench.reference.cached`; Tb = ⌈T/64⌉ blocks of a store's rows. A store's rows are codes:

| format | codes | an element is |
|---|---|---|
| int8 | [T, D] int8, −127…127 | code · scale |
| int4 | [T, D/2] uint8, channel d below 2^4 and d + D/2 above | code · scale + zero, codes 0…15 |
| fp8 | [T, D] float8_e4m3fn | code · scale |

Scales and zeros are bfloat16: of keys one for each channel of a block of 64 rows, of values one for each row.
Blocks are those of the store, row r is in block r // 64, so that a segment may begin anywhere.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pcbench.reference.attention import or_zero, scores_of, weighted_values, wide_dtype
from pcbench.reference.cached import Segments
from pcbench.reference.checks import Arguments
from pcbench.types import KV_BLOCK, KVDtype

__all__ = [
    "CODES",
    "Codes",
    "dequantize_keys",
    "dequantize_values",
    "quantize_keys",
    "quantize_values",
    "quantized_attention",
]

CODES = {"int8": torch.int8, "int4": torch.uint8, "fp8": torch.float8_e4m3fn}
LARGEST = {"int8": 127.0, "int4": 15.0, "fp8": 448.0}


@dataclass(frozen=True, eq=False)
class Codes:
    """Quantised rows [..., S, D]: codes, bfloat16 scales and, of int4, zeros."""

    codes: Tensor
    scales: Tensor
    zeros: Tensor | None


def quantize_keys(k: Tensor, kv_dtype: KVDtype, lengths: Tensor) -> Codes:
    """Keys by channel and block of 64 rows.

    Scales are those of the valid rows; the others hold codes that nobody reads.

    Args:
        k: [..., S, D] float, S a multiple of 64.
        kv_dtype: int8, int4 or fp8.
        lengths: [...] int32, valid rows at the front of each.

    Returns:
        codes [..., S, D] ([..., S, D/2] of int4), scales and zeros [..., S/64, D].
    """
    blocks = k.float().unflatten(-2, (-1, KV_BLOCK))
    valid = torch.arange(k.shape[-2], device=k.device).view(-1, KV_BLOCK) < lengths[..., None, None]
    # a row that is not valid is as the first of its block, which is valid where any is
    blocks = torch.where(valid[..., None], blocks, blocks[..., :1, :])
    scales, zeros = _scales(blocks, kv_dtype, -2)
    codes = _encode(blocks, kv_dtype, scales, zeros).flatten(-3, -2)
    return Codes(codes, scales.squeeze(-2), None if zeros is None else zeros.squeeze(-2))


def quantize_values(v: Tensor, kv_dtype: KVDtype) -> Codes:
    """Values by row.

    Args:
        v: [..., S, D] float.
        kv_dtype: int8, int4 or fp8.

    Returns:
        codes [..., S, D] ([..., S, D/2] of int4), scales and zeros [..., S].
    """
    v = v.float()
    scales, zeros = _scales(v, kv_dtype, -1)
    codes = _encode(v, kv_dtype, scales, zeros)
    return Codes(codes, scales.squeeze(-1), None if zeros is None else zeros.squeeze(-1))


def _scales(x: Tensor, kv_dtype: KVDtype, dim: int) -> tuple[Tensor, Tensor | None]:
    if kv_dtype != "int4":
        return (x.abs().amax(dim, keepdim=True) / LARGEST[kv_dtype]).bfloat16(), None
    least = x.amin(dim, keepdim=True)
    zeros = least.bfloat16()
    # a zero above the least element would cost it more than a step where a channel is far from 0
    zeros = torch.where(zeros.float() > least, zeros.nextafter(torch.full_like(zeros, -torch.inf)), zeros)
    return ((x.amax(dim, keepdim=True) - zeros.float()) / LARGEST[kv_dtype]).bfloat16(), zeros


def _encode(x: Tensor, kv_dtype: KVDtype, scales: Tensor, zeros: Tensor | None) -> Tensor:
    """By the scales as they are stored, so that their rounding costs no accuracy."""
    if zeros is not None:
        x = x - zeros.float()
    steps, most = torch.where(scales == 0, 0.0, x / scales.float()), LARGEST[kv_dtype]
    if kv_dtype == "fp8":
        return steps.clamp(-most, most).to(torch.float8_e4m3fn)
    if kv_dtype == "int8":
        return steps.round().clamp(-most, most).to(torch.int8)
    low, high = steps.round().clamp(0, most).to(torch.uint8).chunk(2, -1)
    return low | high << 4


def dequantize_keys(codes: Tensor, scales: Tensor, zeros: Tensor | None, dtype: torch.dtype) -> Tensor:
    """[T, D] rows of codes and their scales [Tb, D] → [T, D] in `dtype`."""
    rows = codes.shape[-2]
    scales, *more = (x.repeat_interleave(KV_BLOCK, -2)[..., :rows, :] for x in (scales, zeros) if x is not None)
    return _decode(codes, scales, more[0] if more else None, dtype)


def dequantize_values(codes: Tensor, scales: Tensor, zeros: Tensor | None, dtype: torch.dtype) -> Tensor:
    """[T, D] rows of codes and their scales [T] → [T, D] in `dtype`."""
    return _decode(codes, scales[..., None], None if zeros is None else zeros[..., None], dtype)


def _decode(codes: Tensor, scales: Tensor, zeros: Tensor | None, dtype: torch.dtype) -> Tensor:
    if codes.dtype == torch.uint8:
        codes = torch.cat([codes & 15, codes >> 4], -1)
    x = codes.to(dtype) * scales.to(dtype)
    return x if zeros is None else x + zeros.to(dtype)


def quantized_attention(
    q: Tensor,
    k_codes: Tensor,
    v_codes: Tensor,
    k_scales: Tensor,
    v_scales: Tensor,
    starts: Tensor,
    lengths: Tensor,
    slots: Tensor,
    *,
    scale: float,
    k_zeros: Tensor | None = None,
    v_zeros: Tensor | None = None,
    evicted: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of new tokens over the slots of a quantised cache; `merge_states` adds what is not quantised.

    Every key of the listed slots is visible unless evicted. A row that sees nothing has out 0 and lse −inf. Rows are
    dequantised in float32 as they are read, whatever q is.

    Args:
        q: [B, H, Q, D] float.
        k_codes: [T, D] int8 or float8_e4m3fn, or [T, D/2] uint8; contiguous.
        v_codes: as in `k_codes`.
        k_scales: [Tb, D] bfloat16, contiguous.
        v_scales: [T] bfloat16.
        starts: [N, Hkv] int32, first row of each segment.
        lengths: [N, Hkv] int32, rows of each segment; 0 is allowed. Of a segment that goes beyond T compiled ops read
            nothing.
        slots: [B, P] int32, slots each batch row reads; −1 is unused.
        scale: multiplies the scores.
        k_zeros: [Tb, D] bfloat16, contiguous, of uint8 codes; others have none.
        v_zeros: [T] bfloat16, of uint8 codes; others have none.
        evicted: [N, Hkv, W] or [N, H, W] int32 bits over the rows of a segment.

    Returns:
        out [B, H, Q, D] in q's dtype, lse [B, H, Q] float32 (natural log).

    Raises:
        ShapeError: a shape, dtype or layout differs from the above, or H is not a multiple of Hkv.

    Cost: reads every listed row once per kv-head: of int8 and fp8 2·D + 2 bytes a row and D/32 of its block.
    Source: keys by channel and values by token are KIVI's, arXiv:2402.02750, with its recent tokens kept apart. Blocks
        of 64 rows of a store, bfloat16 scales, eviction bits and ragged segments are ours.
    """
    check_quantized_attention(
        q, k_codes, v_codes, k_scales, v_scales, starts, lengths, slots, k_zeros, v_zeros, evicted
    )
    segments, wide = Segments(lengths, slots, q.shape[1]), wide_dtype(q.dtype)
    visible = segments.visible(q.shape[2], evicted, causal_last=False)  # [B, H, Q, P*L]
    keys = segments.gather(dequantize_keys(k_codes, k_scales, k_zeros, wide), starts)
    scores = scores_of(q, keys, scale).masked_fill_(~visible, -torch.inf)
    lse = scores.logsumexp(-1)
    p = scores.sub_(or_zero(lse)[..., None]).exp_()
    values = segments.gather(dequantize_values(v_codes, v_scales, v_zeros, wide), starts)
    return weighted_values(p, values).to(q.dtype), lse


def check_quantized_attention(
    q: Tensor,
    k_codes: Tensor,
    v_codes: Tensor,
    k_scales: Tensor,
    v_scales: Tensor,
    starts: Tensor,
    lengths: Tensor,
    slots: Tensor,
    k_zeros: Tensor | None,
    v_zeros: Tensor | None,
    evicted: Tensor | None,
) -> None:
    a = Arguments("quantized_attention")
    a.floats("q", q, "B H Q D")
    a.sizes["D/2"] = q.shape[3] // 2
    row = "T D/2" if k_codes.dtype == torch.uint8 else "T D"
    a.tensor("k_codes", k_codes, row, tuple(CODES.values()))
    a.tensor("v_codes", v_codes, row, (k_codes.dtype,))
    a.sizes["Tb"] = -(-k_codes.shape[0] // KV_BLOCK)
    # float64 is the dtype of a truth
    scales = (torch.bfloat16, *((torch.float64,) if q.dtype == torch.float64 else ()))
    a.tensor("k_scales", k_scales, "Tb D", scales)
    a.tensor("v_scales", v_scales, "T", scales)
    a.together(k_zeros=k_zeros, v_zeros=v_zeros)
    if (k_zeros is None) == (k_codes.dtype == torch.uint8):
        raise a.fail("k_zeros and v_zeros go with uint8 codes", "none" if k_zeros is None else "some without them")
    if k_zeros is not None and v_zeros is not None:
        a.tensor("k_zeros", k_zeros, "Tb D", scales)
        a.tensor("v_zeros", v_zeros, "T", scales)
        a.contiguous("k_zeros", k_zeros)
    for name, x in (("k_codes", k_codes), ("v_codes", v_codes), ("k_scales", k_scales)):
        a.contiguous(name, x)
    a.ints("starts", starts, "N Hkv")
    a.ints("lengths", lengths, "N Hkv")
    a.grouped()
    a.ints("slots", slots, "B P")
    a.one_of("evicted", evicted, ("N Hkv W", "N H W"), (torch.int32,))
