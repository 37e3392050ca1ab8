"""Attention over chunks with the mass of keys, and the merge of partial attentions, in plain PyTorch.

Letters: B batch rows (chunks of a micro-batch), H query heads, Hkv key/value heads, G = H / Hkv, Q query
rows, S keys, D head dim, P parts, W int32 words of eviction bits. Keys carry their rotary embedding.

Everything is computed in float32 for 16- and 32-bit inputs and in float64 for float64 inputs.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from pcbench.reference.bits import unpack_bits
from pcbench.reference.checks import Arguments
from pcbench.reference.settle import settle

__all__ = ["calibrated_attention", "key_mass", "merge_states"]

# query rows scored at once: bounds the score matrix, keeps the matmuls large
BLOCK_ROWS = 256


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
    """Attention over a batch of chunks that also says how much attention each key received.

    Row i sees key j iff j is not evicted, j < key_lengths, and (not causal or
    j ≤ i + key_lengths − query_lengths). Rows from query_lengths on see nothing. A row that sees
    nothing has out 0 and lse −inf. mass[b, h, j] is the sum over the last `mass_rows` valid rows of
    exp(score_ij − lse_i) under the returned lse: with an incoming state it covers this call's keys only.
    What lies beyond key_lengths may hold anything; within them k and v are finite.

    Args:
        q: [B, H, Q, D] float.
        k: [B, Hkv, S, D], dtype of q.
        v: [B, Hkv, S, D], dtype of q.
        scale: multiplies the scores, usually D^-0.5.
        causal: bottom-right aligned causal mask.
        query_lengths: [B] int32, valid rows, 0..Q; None means Q.
        key_lengths: [B, Hkv] int32, valid keys, 0..S; None means S.
        evicted: [B, Hkv, W] or [B, H, W] int32 bits, W = ⌈S/32⌉.
        mass_rows: rows the mass sums over, ≥ 0.
        out_in: [B, H, Q, D] float32, output of an attention over other keys, merged into this one.
        lse_in: [B, H, Q] float32, its log-sum-exp; goes with out_in.

    Returns:
        out [B, H, Q, D] in q's dtype (float32 with an incoming state), lse [B, H, Q] float32 (natural
        log), mass [B, H, S] float32 (size 0 when mass_rows is 0).

    Raises:
        ShapeError: a shape, dtype or layout differs from the above, or H is not a multiple of Hkv.

    Cost: 4·B·H·Q·S·D operations, half when causal; the mass adds 2·B·H·r·S·D.
    Source: online softmax after FlashAttention, arXiv:2205.14135; observation-window mass after SnapKV,
        arXiv:2404.14469, as ParallelComp uses it, arXiv:2502.14317v2. Sums in float32 without an
        intermediate cast are ours.
    """
    check_calibrated_attention(q, k, v, query_lengths, key_lengths, evicted, mass_rows, out_in, lse_in)
    rows, keys = q.shape[2], k.shape[2]
    wide = wide_dtype(q.dtype)
    if key_lengths is not None:
        # what lies beyond a length may be anything, and 0 × NaN is NaN
        v = v.masked_fill((torch.arange(keys, device=v.device) >= key_lengths[..., None])[..., None], 0.0)
    out = torch.empty_like(q, dtype=q.dtype if out_in is None else wide)
    lse = torch.empty(q.shape[:3], dtype=wide, device=q.device)
    mass = torch.zeros((*q.shape[:2], keys if mass_rows else 0), dtype=wide, device=q.device)
    for start, stop, limit in _row_blocks(rows, keys, causal, query_lengths, key_lengths):
        scores = scores_of(q[:, :, start:stop], k[:, :, :limit], scale)
        for hidden in _hidden(scores, start, rows, keys, causal, query_lengths, key_lengths, evicted):
            scores.masked_fill_(hidden, -torch.inf)
        total = scores.logsumexp(-1)
        if lse_in is not None:
            total = torch.logaddexp(total, lse_in[:, :, start:stop].to(wide))
        p = scores.sub_(or_zero(total)[..., None]).exp_()
        block = weighted_values(p, v[:, :, :limit])
        if out_in is not None and lse_in is not None:
            before = lse_in[:, :, start:stop].to(wide)
            share = (before - or_zero(total)).exp()[..., None]
            block += torch.where(before[..., None] > -torch.inf, share * out_in[:, :, start:stop].to(wide), 0.0)
        out[:, :, start:stop] = block
        lse[:, :, start:stop] = total
        if mass_rows:
            mass[:, :, :limit] += _last_rows(p, start, rows, mass_rows, query_lengths).sum(2)
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
    """Attention each key of a chunk receives from the last rows, given their log-sum-exp.

    The mass of `calibrated_attention` at the same arguments, for attention that another kernel has computed:
    mass[b, h, j] = Σ over the last `mass_rows` valid rows of exp(score_ij − lse_i) for the keys a row sees. Rows and
    keys are valid and seen as there. A row whose lse is −inf adds nothing. Other rows, their lse, and what lies beyond
    key_lengths may hold anything. Under the lse of an attention over more keys it is the mass of these ones.

    Args:
        q: [B, H, Q, D] float.
        k: [B, Hkv, S, D], dtype of q.
        lse: [B, H, Q] float32 (natural log), contiguous.
        scale: multiplies the scores.
        causal: bottom-right aligned causal mask.
        mass_rows: rows the mass sums over, ≥ 0.
        query_lengths: [B] int32, valid rows, 0..Q; None means Q.
        key_lengths: [B, Hkv] int32, valid keys, 0..S; None means S.

    Returns:
        [B, H, S] float32 (size 0 when mass_rows is 0).

    Raises:
        ShapeError: a shape, dtype or layout differs from the above, or H is not a multiple of Hkv.

    Cost: 2·B·H·r·S·D operations; reads every key once per kv-head.
    Source: the observation window of SnapKV, arXiv:2404.14469, as ParallelComp uses it, arXiv:2502.14317v2.
    """
    check_key_mass(q, k, lse, mass_rows, query_lengths, key_lengths)
    batch, heads, rows, dim = q.shape
    kv_heads, keys = k.shape[1:3]
    ends = _within(query_lengths, rows, (batch,), q)
    lengths = _within(key_lengths, keys, (batch, kv_heads), q).repeat_interleave(heads // kv_heads, 1)[..., None, None]
    j = torch.arange(keys, device=q.device)
    window = min(mass_rows, rows)
    mass = torch.zeros((batch, heads, keys if mass_rows else 0), dtype=wide_dtype(q.dtype), device=q.device)
    for start in range(0, window, BLOCK_ROWS):
        # from the last valid row backwards; a negative one is not there
        i = ends[:, None] - 1 - torch.arange(start, min(window, start + BLOCK_ROWS), device=q.device)  # [B, R]
        at = i.clamp_min(0)[:, None].expand(-1, heads, -1)
        total = lse.gather(2, at).masked_fill(i[:, None] < 0, -torch.inf)[..., None]
        scores = scores_of(q.gather(2, at[..., None].expand(-1, -1, -1, dim)), k, scale)
        seen = (j < lengths) & (total != -torch.inf)
        if causal:
            seen = seen & (j <= i[:, None, :, None] + lengths - ends[:, None, None, None])
        mass += (scores - total).exp().masked_fill(~seen, 0.0).sum(2)
    return mass


def merge_states(outs: Tensor, lses: Tensor) -> tuple[Tensor, Tensor]:
    """The attention over all keys from attentions over parts of them.

    Weights are exp(lse_p − lse). Parts that saw nothing (lse −inf) have no weight; where no part saw
    anything out is 0 and lse −inf. Merging is associative up to rounding.

    Args:
        outs: [P, B, H, Q, D] float32, normalised output of each part.
        lses: [P, B, H, Q] float32, natural log.

    Returns:
        out [B, H, Q, D] float32, lse [B, H, Q] float32.

    Raises:
        ShapeError: a shape or dtype differs from the above.

    Cost: reads every part once.
    Source: online softmax, Milakov and Gimelshein, arXiv:1805.02867.
    """
    check_merge_states(outs, lses)
    settle()
    lse = lses.logsumexp(0)
    weights = (lses - or_zero(lse)).exp()
    # a part without keys may hold anything
    parts = outs.masked_fill((lses == -torch.inf)[..., None], 0.0)
    return (parts * weights[..., None]).sum(0), lse


def _row_blocks(
    rows: int, keys: int, causal: bool, query_lengths: Tensor | None, key_lengths: Tensor | None
) -> Iterator[tuple[int, int, int]]:
    """(first row, end, keys any of them can see); ragged lengths on a GPU are not read: that would wait for it."""
    ragged = query_lengths is not None or key_lengths is not None
    if not causal:
        ahead = keys
    elif not ragged:
        ahead = keys - rows
    elif all(x is None or x.device.type == "cpu" for x in (query_lengths, key_lengths)):
        longest = key_lengths.amax(1) if key_lengths is not None and key_lengths.shape[1] else keys
        shortest = query_lengths if query_lengths is not None else rows
        difference = torch.as_tensor(longest - shortest)
        ahead = int(difference.max()) if difference.numel() else 0
    else:
        ahead = keys
    for start in range(0, rows, BLOCK_ROWS):
        stop = min(rows, start + BLOCK_ROWS)
        yield start, stop, max(0, min(keys, stop + ahead))


def _within(lengths: Tensor | None, most: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Lengths in 0..most, int64; None means `most` everywhere."""
    if lengths is None:
        return torch.full(shape, most, device=like.device)
    return lengths.long().clamp(0, most)


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """What inputs of `dtype` are computed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def or_zero(lse: Tensor) -> Tensor:
    """A row that sees nothing has lse −inf; subtracting 0 instead leaves its weights at exp(−inf) = 0."""
    return torch.where(lse == -torch.inf, 0.0, lse)


def _hidden(
    scores: Tensor,
    start: int,
    rows: int,
    keys: int,
    causal: bool,
    query_lengths: Tensor | None,
    key_lengths: Tensor | None,
    evicted: Tensor | None,
) -> Iterator[Tensor]:
    """Masks, broadcastable to a block's scores [B, H, R, limit], whose union hides what its rows must not see."""
    heads, count, limit = scores.shape[1:]
    i = torch.arange(start, start + count, device=scores.device)
    j = torch.arange(limit, device=scores.device)
    if key_lengths is not None:
        yield (j >= key_lengths[..., None]).repeat_interleave(heads // key_lengths.shape[1], 1)[:, :, None]
    if evicted is not None:
        bits = unpack_bits(evicted, limit)
        yield bits.repeat_interleave(heads // bits.shape[1], 1)[:, :, None]
    if query_lengths is not None:
        yield (i >= query_lengths[:, None])[:, None, :, None]
    if causal and query_lengths is None and key_lengths is None:
        yield j > i[:, None] + (keys - rows)
    elif causal:
        offset = torch.zeros((1, 1), dtype=torch.int32, device=scores.device)
        offset = offset + (keys if key_lengths is None else key_lengths)
        offset = offset - (rows if query_lengths is None else query_lengths[:, None])  # [B, Hkv] or [B, 1]
        offset = offset.repeat_interleave(heads // offset.shape[1], 1)
        yield j > i[:, None] + offset[:, :, None, None]


def _last_rows(p: Tensor, start: int, rows: int, count: int, query_lengths: Tensor | None) -> Tensor:
    """The rows of a block [B, H, R, S] among the last `count` valid ones; the others are 0 or absent."""
    if query_lengths is None:
        return p[:, :, max(0, rows - count - start) :]
    i = torch.arange(start, start + p.shape[2], device=p.device)
    return p * (i >= query_lengths[:, None] - count)[:, None, :, None]


def scores_of(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """[B, H, Q, D] × [B, Hkv, S, D] → [B, H, Q, S]; the rows of a group share one matmul with their keys."""
    batch, heads, rows, dim = q.shape
    kv_heads = k.shape[1]
    wide = wide_dtype(q.dtype)
    settle()
    grouped = (q.to(wide) * scale).reshape(batch, kv_heads, heads // kv_heads * rows, dim)
    return (grouped @ k.to(wide).transpose(-1, -2)).view(batch, heads, rows, k.shape[2])


def weighted_values(p: Tensor, v: Tensor) -> Tensor:
    """[B, H, Q, S] × [B, Hkv, S, D] → [B, H, Q, D]."""
    batch, heads, rows, keys = p.shape
    kv_heads = v.shape[1]
    grouped = p.view(batch, kv_heads, heads // kv_heads * rows, keys)
    return (grouped @ v.to(p.dtype)).view(batch, heads, rows, v.shape[3])


def check_calibrated_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    query_lengths: Tensor | None,
    key_lengths: Tensor | None,
    evicted: Tensor | None,
    mass_rows: int,
    out_in: Tensor | None,
    lse_in: Tensor | None,
) -> None:
    a = Arguments("calibrated_attention")
    a.floats("q", q, "B H Q D")
    a.floats("k", k, "B Hkv S D", like=q)
    a.floats("v", v, "B Hkv S D", like=q)
    a.grouped()
    a.ints("query_lengths", query_lengths, "B")
    a.ints("key_lengths", key_lengths, "B Hkv")
    a.sizes["W"] = (k.shape[2] + 31) // 32
    a.one_of("evicted", evicted, ("B Hkv W", "B H W"), (torch.int32,))
    a.number("mass_rows", mass_rows, lambda n: n >= 0, "≥ 0")
    a.together(out_in=out_in, lse_in=lse_in)
    a.state("out_in", out_in, "B H Q D")
    a.state("lse_in", lse_in, "B H Q")


def check_key_mass(
    q: Tensor,
    k: Tensor,
    lse: Tensor,
    mass_rows: int,
    query_lengths: Tensor | None,
    key_lengths: Tensor | None,
) -> None:
    a = Arguments("key_mass")
    a.floats("q", q, "B H Q D")
    a.floats("k", k, "B Hkv S D", like=q)
    a.grouped()
    a.state("lse", lse, "B H Q")
    a.contiguous("lse", lse)
    a.number("mass_rows", mass_rows, lambda n: n >= 0, "≥ 0")
    a.ints("query_lengths", query_lengths, "B")
    a.ints("key_lengths", key_lengths, "B Hkv")


def check_merge_states(outs: Tensor, lses: Tensor) -> None:
    a = Arguments("merge_states")
    a.state("outs", outs, "P B H Q D")
    a.state("lses", lses, "P B H Q")
