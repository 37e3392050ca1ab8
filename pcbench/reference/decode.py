"""Attention of one new token over ragged segments and what every key received of it, in plain PyTorch.

Letters and segments: as in `pcbench.reference.cached`, but each batch row has segments of its own: N = B.
"""

import torch
from torch import Tensor

from pcbench.reference.cached import cached_attention, window_mass
from pcbench.reference.checks import Arguments

__all__ = ["decode_attention"]


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
    """Attention of one new token over a segment for each kv-head, and how much of it every key received.

    mass[b, h, j] = Σ over the query heads of the group, in their order, of exp(score_j − lse); 0 from the segment's
    length on. The new token's own key is a row of the segment like any other: the order of rows does not matter.
    A segment without keys has out 0, lse −inf and mass 0.

    Args:
        q: [B, H, 1, D] float.
        k_rows: [T, D], dtype of q.
        v_rows: [T, D], dtype of q; [Tv, D] with v_starts.
        starts: [B, Hkv] int32, first row of each segment.
        lengths: [B, Hkv] int32, rows of each segment; 0 is allowed. Of a segment whose keys go beyond T or whose
            values go beyond Tv compiled ops read nothing.
        scale: multiplies the scores.
        v_starts: [B, Hkv] int32, first row of each segment in v_rows; None means starts.
        longest: L, keys whose mass is reported; no segment is longer. On a GPU, where reading lengths would wait, a
            longer one is attended to as a whole.

    Returns:
        out [B, H, 1, D] in q's dtype, lse [B, H] float32 (natural log), mass [B, Hkv, L] float32.

    Raises:
        ShapeError: a shape, dtype or layout differs from the above, or H is not a multiple of Hkv.
        ShapeError: `longest` is negative, or on a CPU below a length.

    Cost: reads every key and value once per kv-head, and writes and reads a float32 for each key and query head.
    Source: attention of decoding that evicts by what keys receive, UNComp, arXiv:2410.03090, and H2O,
        arXiv:2306.14048; ragged segments after Ada-KV, arXiv:2407.11550. One pass over the keys is ours.
    """
    a = check_decode_attention(q, k_rows, v_rows, starts, lengths, v_starts, longest)
    if lengths.device.type == "cpu" and lengths.numel():
        most = int(lengths.max())
        a.number("longest", longest, lambda n: n >= most, "at least every length")
    slots = torch.arange(q.shape[0], dtype=torch.int32, device=q.device)[:, None]
    where = (starts, lengths, slots)
    out, lse = cached_attention(q, k_rows, v_rows, *where, scale=scale, v_starts=v_starts, causal_last=False)
    by_head = window_mass(q, lse, k_rows, *where, scale=scale, causal_last=False, longest=longest)  # [B, 1, H, L]
    mass, *others = by_head[:, 0].unflatten(1, (starts.shape[1], -1)).unbind(2)
    for other in others:
        mass = mass + other
    return out, lse[..., 0], mass


def check_decode_attention(
    q: Tensor,
    k_rows: Tensor,
    v_rows: Tensor,
    starts: Tensor,
    lengths: Tensor,
    v_starts: Tensor | None,
    longest: int,
) -> Arguments:
    a = Arguments("decode_attention")
    a.floats("q", q, "B H 1 D")
    a.floats("k_rows", k_rows, "T D", like=q)
    a.floats("v_rows", v_rows, "T D" if v_starts is None else "Tv D", like=q)
    a.ints("starts", starts, "B Hkv")
    a.ints("lengths", lengths, "B Hkv")
    a.ints("v_starts", v_starts, "B Hkv")
    a.grouped()
    a.number("longest", longest, lambda n: n >= 0, "≥ 0")
    return a
