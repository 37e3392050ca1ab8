"""Compiled attention; the documentation is in `pcbench.reference`."""

from torch import Tensor

from pcbench.ops.backends import launch
from pcbench.reference.attention import check_calibrated_attention, check_key_mass, check_merge_states
from pcbench.reference.cached import check_cached_attention, check_window_mass
from pcbench.reference.decode import check_decode_attention
from pcbench.reference.quantized import check_quantized_attention

__all__ = [
    "cached_attention",
    "calibrated_attention",
    "decode_attention",
    "key_mass",
    "merge_states",
    "quantized_attention",
    "window_mass",
]


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
    """Compiled `pcbench.reference.calibrated_attention`."""
    out, lse, mass = launch(
        "calibrated_attention",
        lambda: check_calibrated_attention(q, k, v, query_lengths, key_lengths, evicted, mass_rows, out_in, lse_in),
        (q, k, v, out_in, lse_in),
        q,
        k,
        v,
        scale=scale,
        causal=causal,
        query_lengths=query_lengths,
        key_lengths=key_lengths,
        evicted=evicted,
        mass_rows=mass_rows,
        out_in=out_in,
        lse_in=lse_in,
    )
    return out, lse, mass


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
    """Compiled `pcbench.reference.key_mass`."""
    mass: Tensor = launch(
        "key_mass",
        lambda: check_key_mass(q, k, lse, mass_rows, query_lengths, key_lengths),
        (q, lse, k),
        q,
        k,
        lse,
        scale=scale,
        causal=causal,
        mass_rows=mass_rows,
        query_lengths=query_lengths,
        key_lengths=key_lengths,
    )
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
    """Compiled `pcbench.reference.cached_attention`."""
    out, lse = launch(
        "cached_attention",
        lambda: check_cached_attention(q, k_rows, v_rows, starts, lengths, slots, evicted, v_starts),
        (q, k_rows, v_rows),
        q,
        k_rows,
        v_rows,
        starts,
        lengths,
        slots,
        scale=scale,
        evicted=evicted,
        v_starts=v_starts,
        causal_last=causal_last,
    )
    return out, lse


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
    """Compiled `pcbench.reference.quantized_attention`."""
    codes = (k_codes, v_codes, k_scales, v_scales)
    out, lse = launch(
        "quantized_attention",
        lambda: check_quantized_attention(q, *codes, starts, lengths, slots, k_zeros, v_zeros, evicted),
        (q,),
        q,
        *codes,
        starts,
        lengths,
        slots,
        scale=scale,
        k_zeros=k_zeros,
        v_zeros=v_zeros,
        evicted=evicted,
    )
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
    """Compiled `pcbench.reference.decode_attention`."""
    out, lse, mass = launch(
        "decode_attention",
        lambda: check_decode_attention(q, k_rows, v_rows, starts, lengths, v_starts, longest),
        (q, k_rows, v_rows),
        q,
        k_rows,
        v_rows,
        starts,
        lengths,
        scale=scale,
        v_starts=v_starts,
        longest=longest,
    )
    return out, lse, mass


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
    """Compiled `pcbench.reference.window_mass`."""
    mass: Tensor = launch(
        "window_mass",
        lambda: check_window_mass(q_last, lse, k_rows, starts, lengths, slots, longest),
        (q_last, lse, k_rows),
        q_last,
        lse,
        k_rows,
        starts,
        lengths,
        slots,
        scale=scale,
        causal_last=causal_last,
        longest=longest,
    )
    return mass


def merge_states(outs: Tensor, lses: Tensor) -> tuple[Tensor, Tensor]:
    """Compiled `pcbench.reference.merge_states`."""
    out, lse = launch("merge_states", lambda: check_merge_states(outs, lses), (outs, lses), outs, lses)
    return out, lse
