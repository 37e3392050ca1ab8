"""Attention over all that a store holds of a layer, in whatever format."""

import torch
from torch import Tensor

from pcbench.types import KVRows, Ops

__all__ = ["stored_attention"]


def stored_attention(
    ops: Ops, q: Tensor, rows: KVRows, slots: Tensor, *, scale: float, causal_last: bool
) -> tuple[Tensor, Tensor]:
    """`cached_attention` over a layer's rows, merged with `quantized_attention` where some of them are quantised.

    Args:
        ops: the backend.
        q: [B, H, Q, D].
        rows: the layer.
        slots: [B, P] int32, −1 unused.
        scale: multiplies the scores.
        causal_last: the last listed slot is causal; its own keys are not quantised.

    Returns:
        out [B, H, Q, D] in q's dtype, lse [B, H, Q] float32.
    """
    out, lse = ops.cached_attention(
        q, rows.k_rows, rows.v_rows, rows.starts, rows.lengths, slots,
        scale=scale, evicted=rows.evicted, v_starts=rows.v_starts, causal_last=causal_last,
    )  # fmt: skip
    codes = rows.quantized
    if codes is None:
        return out, lse
    coded, coded_lse = ops.quantized_attention(
        q, codes.k_codes, codes.v_codes, codes.k_scales, codes.v_scales, codes.starts, codes.lengths, slots,
        scale=scale, k_zeros=codes.k_zeros, v_zeros=codes.v_zeros, evicted=rows.evicted,
    )  # fmt: skip
    merged, lse = ops.merge_states(torch.stack([coded.float(), out.float()]), torch.stack([coded_lse, lse]))
    return merged.to(q.dtype), lse
