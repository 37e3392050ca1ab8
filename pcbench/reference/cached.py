"""Attention over a slotted cache, and the mass its keys receive from a window of rows, in plain PyTorch.

Letters: as in `pcbench.reference.attention`; P slots a row reads, N slots in the store, L keys of the
longest segment.

KV rows. A layer's cache is `k_rows, v_rows` [T, D]; the segment of (slot n, kv-head h) is the
`lengths[n, h]` rows from `starts[n, h]`. With `v_starts` its values are as many rows of `v_rows` from
`v_starts[n, h]`: several segments can have the same keys, each with values of its own.
"""

import torch
from torch import Tensor

from pcbench.reference.attention import or_zero, scores_of, weighted_values
from pcbench.reference.bits import unpack_bits
from pcbench.reference.checks import Arguments

__all__ = ["cached_attention", "window_mass"]


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
    """Attention of new tokens over the slots of a cache: the query stage (Q > 1) and decoding (Q = 1).

    Every key of the listed slots is visible unless evicted. With `causal_last` the last listed slot
    (the last entry of `slots[b]` that is not −1) holds the rows' own keys and is causal, bottom-right
    aligned: row i sees its keys j ≤ i + length − Q. A row that sees nothing has out 0 and lse −inf.
    The order of the other slots does not matter: positions are in the keys.

    Args:
        q: [B, H, Q, D] float.
        k_rows: [T, D], dtype of q.
        v_rows: [T, D], dtype of q; [Tv, D] with v_starts.
        starts: [N, Hkv] int32, first row of each segment.
        lengths: [N, Hkv] int32, rows of each segment; 0 is allowed. Of a segment whose keys go beyond T or whose
            values go beyond Tv compiled ops read nothing.
        slots: [B, P] int32, slots each batch row reads; −1 is unused.
        scale: multiplies the scores.
        evicted: [N, Hkv, W] or [N, H, W] int32 bits over the rows of a segment.
        v_starts: [N, Hkv] int32, first row of each segment in v_rows; None means starts.
        causal_last: the last listed slot is causal.

    Returns:
        out [B, H, Q, D] in q's dtype, lse [B, H, Q] float32 (natural log).

    Raises:
        ShapeError: a shape, dtype or layout differs from the above, or H is not a multiple of Hkv.

    Cost: reads every listed row once per kv-head: 2·D·itemsize bytes a row.
    Source: split-key decoding after FlashDecoding (crfm.stanford.edu/2023/10/12/flashdecoding.html);
        exact because softmax does not depend on the order of keys. Slots and bits are ours; keys that
        heads share while each keeps its values are CHAI's, arXiv:2403.08058.
    """
    check_cached_attention(q, k_rows, v_rows, starts, lengths, slots, evicted, v_starts)
    segments = Segments(lengths, slots, q.shape[1])
    visible = segments.visible(q.shape[2], evicted, causal_last)  # [B, H, Q, P*L]
    scores = scores_of(q, segments.gather(k_rows, starts), scale).masked_fill_(~visible, -torch.inf)
    lse = scores.logsumexp(-1)
    p = scores.sub_(or_zero(lse)[..., None]).exp_()
    values = segments.gather(v_rows, starts if v_starts is None else v_starts)
    return weighted_values(p, values).to(q.dtype), lse


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
    """Attention each cached key receives from a window of rows, given their log-sum-exp.

    mass[b, p, h, j] = Σ over the R rows of exp(score_ij − lse_i) for key j of slot slots[b, p]; 0 for
    keys a row does not see, beyond a segment's length, of unused slots, and for rows with lse −inf.
    With the lse of `cached_attention` over the same slots the mass of a row sums to 1.

    Args:
        q_last: [B, H, R, D] float; with `causal_last` the last rows of the call that lse came from.
        lse: [B, H, R] float32.
        k_rows: [T, D], dtype of q_last.
        starts: [N, Hkv] int32.
        lengths: [N, Hkv] int32.
        slots: [B, P] int32, −1 unused.
        scale: multiplies the scores.
        causal_last: the last listed slot is causal, bottom-right aligned.
        longest: L, keys reported per segment; segments are not longer.

    Returns:
        [B, P, H, L] float32.

    Raises:
        ShapeError: a shape, dtype or layout differs from the above, or H is not a multiple of Hkv.
        ShapeError: `longest` is negative.

    Cost: 2·B·H·R·P·L·D operations; reads every key once per kv-head.
    Source: the observation window of SnapKV, arXiv:2404.14469; used for the attention calibration of
        ParallelComp, arXiv:2502.14317v2. `longest` is an argument because reading it would wait for the device.
    """
    check_window_mass(q_last, lse, k_rows, starts, lengths, slots, longest)
    segments = Segments(lengths, slots, q_last.shape[1], longest)
    visible = segments.visible(q_last.shape[2], None, causal_last) & (lse != -torch.inf)[..., None]
    scores = scores_of(q_last, segments.gather(k_rows, starts), scale)
    p = (scores - lse[..., None]).exp().masked_fill(~visible, 0.0)
    mass: Tensor = p.sum(2).unflatten(-1, (slots.shape[1], longest))
    return mass.transpose(1, 2).contiguous()


class Segments:
    """The listed segments of a store as one padded axis of P·L keys.

    Args:
        lengths: [N, Hkv] int32.
        slots: [B, P] int32.
        heads: H.
        longest: L; None reads the longest listed segment, which waits for the device.
    """

    def __init__(self, lengths: Tensor, slots: Tensor, heads: int, longest: int | None = None) -> None:
        used = slots >= 0
        listed = slots.clamp_min(0).long()
        self.heads, self.slots, self.used = heads, listed, used
        self.group = heads // max(1, lengths.shape[1])
        # [B, Hkv, P]
        self.lengths = torch.where(used[..., None], lengths[listed], 0).transpose(1, 2)
        if longest is None:
            longest = int(self.lengths.max()) if self.lengths.numel() else 0
        self.longest = longest
        self.row = torch.arange(longest, device=slots.device)
        self.valid = self.row < self.lengths[..., None]  # [B, Hkv, P, L]
        place = torch.arange(slots.shape[1], device=slots.device)
        self.is_last = place == torch.where(used, place, -1).amax(1, keepdim=True) if slots.shape[1] else used  # [B, P]

    def gather(self, rows: Tensor, starts: Tensor) -> Tensor:
        """[T, D], [N, Hkv] → [B, Hkv, P·L, D]; zeros beyond a segment's length, where rows may hold anything."""
        if not rows.shape[0]:
            rows = rows.new_zeros((1, rows.shape[1]))
        index = torch.where(self.valid, starts[self.slots].transpose(1, 2)[..., None] + self.row, 0)
        return rows[index].masked_fill_(~self.valid[..., None], 0.0).flatten(2, 3)

    def visible(self, rows: int, evicted: Tensor | None, causal_last: bool) -> Tensor:
        """[B, H, Q, P·L] bool."""
        seen = self.valid.repeat_interleave(self.group, 1)  # [B, H, P, L]
        if evicted is not None:
            bits = unpack_bits(evicted[self.slots], self.longest)  # [B, P, Hkv|H, L]
            seen = seen & ~bits.transpose(1, 2).repeat_interleave(self.heads // bits.shape[2], 1)
        seen = seen[:, :, None].expand(-1, -1, rows, -1, -1)
        if causal_last:
            i = torch.arange(rows, device=seen.device)[:, None]
            j = torch.arange(self.longest, device=seen.device)
            own = self.lengths.repeat_interleave(self.group, 1)[..., None, None] - rows  # [B, H, P, 1, 1]
            allowed = (j <= i + own) | ~self.is_last[:, None, :, None, None]  # [B, H, P, Q, L]
            seen = seen & allowed.transpose(2, 3)
        return seen.flatten(3)


def check_cached_attention(
    q: Tensor,
    k_rows: Tensor,
    v_rows: Tensor,
    starts: Tensor,
    lengths: Tensor,
    slots: Tensor,
    evicted: Tensor | None,
    v_starts: Tensor | None,
) -> None:
    a = Arguments("cached_attention")
    a.floats("q", q, "B H Q D")
    a.floats("k_rows", k_rows, "T D", like=q)
    a.floats("v_rows", v_rows, "T D" if v_starts is None else "Tv D", like=q)
    a.ints("starts", starts, "N Hkv")
    a.ints("lengths", lengths, "N Hkv")
    a.ints("v_starts", v_starts, "N Hkv")
    a.grouped()
    a.ints("slots", slots, "B P")
    a.one_of("evicted", evicted, ("N Hkv W", "N H W"), (torch.int32,))


def check_window_mass(
    q_last: Tensor,
    lse: Tensor,
    k_rows: Tensor,
    starts: Tensor,
    lengths: Tensor,
    slots: Tensor,
    longest: int,
) -> None:
    a = Arguments("window_mass")
    a.floats("q_last", q_last, "B H R D")
    a.state("lse", lse, "B H R")
    a.floats("k_rows", k_rows, "T D", like=q_last)
    a.ints("starts", starts, "N Hkv")
    a.ints("lengths", lengths, "N Hkv")
    a.grouped()
    a.ints("slots", slots, "B P")
    a.number("longest", longest, lambda n: n >= 0, "≥ 0")
