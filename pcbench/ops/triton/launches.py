"""The ops that Triton has, with the signatures of `pcbench.reference`; the documentation is there."""

from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from pcbench.errors import BackendUnavailable
from pcbench.ops.fakes import refuse_gradients
from pcbench.ops.gpus import TorchGpu
from pcbench.ops.libraries import why_not
from pcbench.ops.triton import kernels
from pcbench.ops.triton.tiles import FEWEST, padded, tile
from pcbench.reference.attention import check_calibrated_attention, check_key_mass, check_merge_states
from pcbench.reference.cached import check_cached_attention, check_window_mass
from pcbench.reference.decode import check_decode_attention
from pcbench.reference.quantized import CODES, check_quantized_attention

__all__ = [
    "cached_attention",
    "calibrated_attention",
    "decode_attention",
    "key_mass",
    "merge_states",
    "quantized_attention",
    "window_mass",
]

# programs that fill a GPU: keys are split until there are so many
PROGRAMS, MOST_SPLITS = 256, 32


def calibrated_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float,
    causal: bool,
    query_lengths: Tensor | None = None,
    key_lengths: Tensor | None = None,
    evicted: Tensor | None = None,
    mass_rows: int = 0,
    out_in: Tensor | None = None,
    lse_in: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`pcbench.reference.calibrated_attention` in Triton."""
    check_calibrated_attention(q, k, v, query_lengths, key_lengths, evicted, mass_rows, out_in, lse_in)
    _require("calibrated_attention", q, k, v, out_in, lse_in)
    q, k, v, query_lengths, key_lengths = map(_packed, (q, k, v, query_lengths, key_lengths))
    evicted, out_in, lse_in = map(_packed, (evicted, out_in, lse_in))
    batch, heads, rows, dim = q.shape
    out = q.new_empty(q.shape, dtype=q.dtype if out_in is None else torch.float32)
    lse = q.new_empty(q.shape[:3], dtype=torch.float32)
    lengths, length_strides, flags = _lengths(q, query_lengths, key_lengths, causal)
    bits = _bits(q, evicted)
    if out.numel():
        m, n, warps, stages = tile(_arch(q), q.dtype, dim, rows)
        incoming, states, state_strides = False, (q, q), (0,) * 5
        if out_in is not None and lse_in is not None:
            incoming, states, state_strides = True, (out_in, lse_in), (*_lead(out_in), *lse_in.stride()[:2])
        with _on(q):
            kernels.attend[(triton.cdiv(rows, m), batch * heads)](
                q, k, v, out, lse, *lengths, bits[0], *states, scale, heads, heads // k.shape[1], rows, k.shape[2],
                *_lead(q), *_lead(k), *_lead(v), *length_strides, *bits[1:], *state_strides,
                DIM=dim, C=padded(dim), M=m, N=n, EVICTED=evicted is not None, STATE=incoming, **flags,
                num_warps=warps, num_stages=stages,
            )  # fmt: skip
    return out, lse, _mass(q, k, lse, scale, causal, mass_rows, query_lengths, key_lengths, evicted)


def key_mass(
    q: Tensor,
    k: Tensor,
    lse: Tensor,
    *,
    scale: float,
    causal: bool,
    mass_rows: int,
    query_lengths: Tensor | None = None,
    key_lengths: Tensor | None = None,
) -> Tensor:
    """`pcbench.reference.key_mass` in Triton: the mass launch of `calibrated_attention`."""
    check_key_mass(q, k, lse, mass_rows, query_lengths, key_lengths)
    _require("key_mass", q, k, lse)
    q, k, query_lengths, key_lengths = map(_packed, (q, k, query_lengths, key_lengths))
    return _mass(q, k, lse, scale, causal, mass_rows, query_lengths, key_lengths, None)


def _mass(
    q: Tensor,
    k: Tensor,
    lse: Tensor,
    scale: float,
    causal: bool,
    mass_rows: int,
    query_lengths: Tensor | None,
    key_lengths: Tensor | None,
    evicted: Tensor | None,
) -> Tensor:
    batch, heads, rows, dim = q.shape
    keys = k.shape[2]
    mass = q.new_empty((batch, heads, keys if mass_rows else 0), dtype=torch.float32)
    if mass.numel():
        lengths, length_strides, flags = _lengths(q, query_lengths, key_lengths, causal)
        bits = _bits(q, evicted)
        m, n, warps, stages = tile(_arch(q), q.dtype, dim, min(mass_rows, rows), mass=True)
        with _on(q):
            kernels.weigh[(triton.cdiv(keys, n), batch * heads)](
                q, k, lse, mass, *lengths, bits[0], scale, heads, heads // k.shape[1], rows, keys, min(mass_rows, rows),
                *_lead(q), *_lead(k), *_lead(lse), *length_strides, *bits[1:],
                DIM=dim, C=padded(dim), M=m, N=n, EVICTED=evicted is not None, **flags,
                num_warps=warps, num_stages=stages,
            )  # fmt: skip
    return mass


def cached_attention(
    q: Tensor,
    k_rows: Tensor,
    v_rows: Tensor,
    starts: Tensor,
    lengths: Tensor,
    slots: Tensor,
    *,
    scale: float,
    evicted: Tensor | None = None,
    v_starts: Tensor | None = None,
    causal_last: bool,
) -> tuple[Tensor, Tensor]:
    """`pcbench.reference.cached_attention` in Triton."""
    check_cached_attention(q, k_rows, v_rows, starts, lengths, slots, evicted, v_starts)
    _require("cached_attention", q, k_rows, v_rows)
    k_rows, v_rows = map(_packed, (k_rows, v_rows))
    of_values = starts if v_starts is None else v_starts
    return _attend_cached(q, (k_rows, v_rows), (), starts, lengths, of_values, slots, evicted, scale, causal_last)


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
    """`pcbench.reference.quantized_attention` in Triton."""
    codes = (k_codes, v_codes, k_scales, v_scales)
    check_quantized_attention(q, *codes, starts, lengths, slots, k_zeros, v_zeros, evicted)
    _require("quantized_attention", q)
    # bytes of fp8, which not every GPU has
    rows = tuple(x.view(torch.uint8) if x.dtype == torch.float8_e4m3fn else x for x in (k_codes, v_codes))
    scales = (k_scales, k_scales if k_zeros is None else k_zeros, v_scales, v_scales if v_zeros is None else v_zeros)
    kv_dtype = next(name for name, dtype in CODES.items() if dtype == k_codes.dtype)
    return _attend_cached(q, rows, scales, starts, lengths, starts, slots, evicted, scale, False, kv_dtype)


def _attend_cached(
    q: Tensor,
    stored: tuple[Tensor, ...],
    scales: tuple[Tensor, ...],
    starts: Tensor,
    lengths: Tensor,
    of_values: Tensor,
    slots: Tensor,
    evicted: Tensor | None,
    scale: float,
    causal_last: bool,
    kv_dtype: str = "",
) -> tuple[Tensor, Tensor]:
    """Attention over stored keys and values of q's dtype, or of codes with scales and zeros of both."""
    q, slots, evicted = map(_packed, (q, slots, evicted))
    starts, lengths, of_values = map(_packed, (starts, lengths, of_values))
    k_rows, v_rows = stored
    batch, heads, rows, dim = q.shape
    out, lse = q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=torch.float32)
    if not out.numel():
        return out, lse
    group = heads // starts.shape[1]
    # heads that have bits of their own share no program
    together = 1 if evicted is not None and evicted.shape[1] == heads else group
    m, n, warps, stages = tile(_arch(q), q.dtype, dim, rows * together, codes=bool(kv_dtype))
    grid = triton.cdiv(rows * together, m), batch * heads // together
    splits = min(MOST_SPLITS, max(1, PROGRAMS // (grid[0] * grid[1])))
    outs = q.new_empty((splits, *q.shape), dtype=torch.float32)
    lses = q.new_empty((splits, *q.shape[:3]), dtype=torch.float32)
    bits = (q, 0, 0, 0) if evicted is None else (evicted, *_lead(evicted), evicted.shape[2])
    with _on(q):
        kernels.attend_cached[(*grid, splits)](
            q, k_rows, v_rows, *(scales or (q,) * 4), starts, lengths, of_values, slots, bits[0], outs, lses, scale,
            heads, together, group, rows, slots.shape[1], starts.shape[0], k_rows.shape[0], v_rows.shape[0], *_lead(q),
            *_lead(k_rows),
            *_lead(v_rows), *_lead(starts), *_lead(lengths), *_lead(of_values), *_lead(slots), *bits[1:], splits,
            DIM=dim, C=padded(dim), M=m, N=n, CAUSAL_LAST=causal_last, EVICTED=evicted is not None, FORMAT=kv_dtype,
            num_warps=warps, num_stages=stages,
        )  # fmt: skip
        _merge(outs, lses, out, lse)
    return out, lse


def decode_attention(
    q: Tensor,
    k_rows: Tensor,
    v_rows: Tensor,
    starts: Tensor,
    lengths: Tensor,
    *,
    scale: float,
    v_starts: Tensor | None = None,
    longest: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """`pcbench.reference.decode_attention`: the attention, then the mass of its one row, in Triton."""
    check_decode_attention(q, k_rows, v_rows, starts, lengths, v_starts, longest)
    slots = torch.arange(q.shape[0], dtype=torch.int32, device=q.device)[:, None]
    where = (starts, lengths, slots)
    out, lse = cached_attention(q, k_rows, v_rows, *where, scale=scale, v_starts=v_starts, causal_last=False)
    mass = window_mass(q, lse, k_rows, *where, scale=scale, causal_last=False, longest=longest)[:, 0]
    return out, lse[..., 0], mass.unflatten(1, (starts.shape[1], -1)).sum(2)


def window_mass(
    q_last: Tensor,
    lse: Tensor,
    k_rows: Tensor,
    starts: Tensor,
    lengths: Tensor,
    slots: Tensor,
    *,
    scale: float,
    causal_last: bool,
    longest: int,
) -> Tensor:
    """`pcbench.reference.window_mass` in Triton."""
    check_window_mass(q_last, lse, k_rows, starts, lengths, slots, longest)
    _require("window_mass", q_last, lse, k_rows)
    q_last, lse, k_rows, starts, lengths, slots = map(_packed, (q_last, lse, k_rows, starts, lengths, slots))
    batch, heads, rows, dim = q_last.shape
    listed = slots.shape[1]
    mass = q_last.new_empty((batch, listed, heads, longest), dtype=torch.float32)
    if mass.numel():
        m, n, warps, stages = tile(_arch(q_last), q_last.dtype, dim, rows, mass=True)
        with _on(q_last):
            kernels.weigh_cached[(triton.cdiv(longest, n), listed, batch * heads)](
                q_last, lse, k_rows, starts, lengths, slots, mass, scale, heads, heads // starts.shape[1], rows, listed,
                starts.shape[0], k_rows.shape[0], longest, *_lead(q_last), *_lead(k_rows), *_lead(starts),
                *_lead(lengths), *_lead(slots), *_lead(lse),
                DIM=dim, C=padded(dim), M=m, N=n, CAUSAL_LAST=causal_last, num_warps=warps, num_stages=stages,
            )  # fmt: skip
    return mass


def merge_states(outs: Tensor, lses: Tensor) -> tuple[Tensor, Tensor]:
    """`pcbench.reference.merge_states` in Triton."""
    check_merge_states(outs, lses)
    _require("merge_states", outs, lses)
    out, lse = outs.new_empty(outs.shape[1:]), lses.new_empty(lses.shape[1:])
    if out.numel():
        with _on(outs):
            _merge(outs.contiguous(), lses.contiguous(), out, lse)
    return out, lse


def _merge(outs: Tensor, lses: Tensor, out: Tensor, lse: Tensor) -> None:
    """Contiguous parts [P, B, H, Q, D] and [P, B, H, Q] into one."""
    rows, dim = lse.numel(), out.shape[-1]
    kernels.merge[(triton.cdiv(rows, FEWEST),)](
        outs, lses, out, lse, outs.shape[0], rows, DIM=dim, C=padded(dim), M=FEWEST
    )


def _require(op: str, lead: Tensor, *inputs: Tensor | None) -> None:
    """Raises unless the kernels take these inputs."""
    refuse_gradients(op, lead, *inputs)
    if reason := _reason(op, int(lead.shape[-1]), lead.dtype):
        raise BackendUnavailable(f"{op}: {reason}; pcbench.reference.{op} runs anywhere", {"triton": reason})


@cache
def _reason(op: str, dim: int, dtype: torch.dtype) -> str | None:
    return why_not("triton", op, head_dim=dim, dtype=dtype)


@cache
def _arch_of(device: torch.device) -> str:
    return TorchGpu.of(device).arch


def _arch(x: Tensor) -> str:
    """Of the GPU that holds `x`; empty where an interpreter runs on the CPU."""
    return _arch_of(x.device) if x.is_cuda else ""


def _on(x: Tensor) -> Any:
    """Kernels start on the device of `x`; an interpreter's are on the CPU."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def _packed(x: Any) -> Any:
    """With a contiguous last dimension, which the kernels step along."""
    return x if x is None or x.shape[-1] <= 1 or x.stride(-1) == 1 else x.contiguous()


def _lead(x: Tensor) -> tuple[int, ...]:
    """Strides before the last dimension."""
    return x.stride()[:-1]


def _lengths(
    q: Tensor, query_lengths: Tensor | None, key_lengths: Tensor | None, causal: bool
) -> tuple[tuple[Tensor, Tensor], tuple[int, ...], dict[str, bool]]:
    """Lengths, or any tensor in their place; the strides of those of keys; what a kernel needs to know of them."""
    lengths = (q if query_lengths is None else query_lengths, q if key_lengths is None else key_lengths)
    strides = (0, 0) if key_lengths is None else key_lengths.stride()
    known = {"QUERY_LENGTHS": query_lengths is not None, "KEY_LENGTHS": key_lengths is not None, "CAUSAL": causal}
    return lengths, strides, known


def _bits(q: Tensor, evicted: Tensor | None) -> tuple[Tensor, int, int]:
    """Bits as [B, H, W] and the strides of B and H; where kv-heads have them their group shares a row."""
    if evicted is None:
        return q, 0, 0
    heads = q.shape[1]
    wide = evicted if evicted.shape[1] == heads else evicted.repeat_interleave(heads // evicted.shape[1], 1)
    return wide, wide.stride(0), wide.stride(1)
