"""Attention of Dual Chunk Attention over ragged segments, in plain PyTorch.

Letters and segments: as in `pcbench.reference.decode`; s the period, P the clip, R channels that turn, K chunks
listed for a tile of rows, Nt tiles.
"""

import torch
from torch import Tensor

from pcbench.reference.attention import scores_of, weighted_values, wide_dtype
from pcbench.reference.cached import Segments
from pcbench.reference.checks import Arguments

__all__ = ["dual_chunk_attention"]

# query rows scored at once: bounds the three score matrices
BLOCK_ROWS = 128


def dual_chunk_attention(
    q: Tensor,
    k_rows: Tensor,
    v_rows: Tensor,
    starts: Tensor,
    lengths: Tensor,
    turns: Tensor,
    *,
    scale: float,
    period: int,
    interleaved: bool = False,
    query_lengths: Tensor | None = None,
    gains: Tensor | None = None,
    chunks: Tensor | None = None,
    tile_rows: int = 0,
) -> tuple[Tensor, Tensor]:
    """Causal attention whose positions never exceed P: one rotated key, and a query that turns with the distance.

    Key j of a segment is the token at position j, rotated at j mod s. The rows are the segment's last tokens: row r
    of batch row b is at position i = lengths[b, h] − query_lengths[b] + r of kv-head h, rotated at p = i mod s. It
    sees the keys j ≤ i, all in one softmax: those of its own chunk (j div s = i div s) with q as it is, those of the
    chunk before with q turned on by min(s, P − p) positions, all others with q turned on by P − p. To turn a pair of
    channels (a, b) by m positions is (a·cos − b·sin, b·cos + a·sin) with row m of `turns`. Rows from query_lengths on,
    and rows with i < 0, see nothing: out 0, lse −inf.

    With `chunks`, a row of tile r div tile_rows sees of the chunks before its previous one only those listed for the
    tile. Ids of its own, its previous or a later chunk change nothing. Different batch rows, and kv-heads whose
    lengths differ, may be in different chunks. Up to min(P + 1, 2s) keys it is plain causal attention.

    Differentiable in q, k_rows and v_rows.

    Args:
        q: [B, H, Q, D] float, rotated at position mod s.
        k_rows: [T, D], dtype of q, rotated at position mod s.
        v_rows: [T, D], dtype of q.
        starts: [B, Hkv] int32, first row of each segment.
        lengths: [B, Hkv] int32, keys of each segment, the rows' own among them; 0 is allowed. Of a segment whose keys
            go beyond T compiled ops read nothing. Rows outside segments may hold anything.
        turns: [P + 1, R] float32, R ≤ D even: row m holds R/2 cosines, then R/2 sines, of the angles of m positions.
            Channels from R on do not turn.
        scale: multiplies the scores.
        period: s, in 1..P.
        interleaved: channels (0, 1), (2, 3), … turn together; otherwise channel c turns with c + R/2.
        query_lengths: [B] int32, valid rows, 0..Q; None means Q.
        gains: [B, Q] float32, multiplies the scale of a row; None means 1.
        chunks: [B, Hkv, Nt, K] int32, ids of chunks that a tile's rows may read, each once; −1 is unused. None means
            all.
        tile_rows: rows of a tile, Nt = ⌈Q / tile_rows⌉; 0 without chunks.

    Returns:
        out [B, H, Q, D] in q's dtype, lse [B, H, Q] float32 (natural log).

    Raises:
        ShapeError: a shape, dtype or layout differs from the above, or H is not a multiple of Hkv.
        ShapeError: `period` is not in 1..P, R is odd or above D, or `tile_rows` does not go with `chunks`.

    Cost: that of causal attention over the keys a row sees, and two turns of q. Here three times its scores.
    Source: Dual Chunk Attention, arXiv:2402.17463. Turning q on from its own rotation, one softmax for all three
        kinds of keys, gains by row and the lists of chunks are ours.
    """
    check_dual_chunk_attention(
        q, k_rows, v_rows, starts, lengths, turns, period, query_lengths, gains, chunks, tile_rows
    )
    rows, clip = q.shape[2], turns.shape[0] - 1
    slots = torch.arange(q.shape[0], dtype=torch.int32, device=q.device)[:, None]
    segments = Segments(lengths, slots, q.shape[1])
    keys, values = segments.gather(k_rows, starts), segments.gather(v_rows, starts)  # [B, Hkv, L, D]
    chunk = torch.arange(segments.longest, device=q.device) // period  # of each key
    position = row_positions(rows, lengths, query_lengths)  # [B, Hkv, Q]
    listed = None if chunks is None else listed_chunks(chunks, rows, tile_rows, segments.longest // period + 1)
    wide = q.to(wide_dtype(q.dtype))
    if gains is not None:
        wide = wide * gains[:, None, :, None].to(wide.dtype)
    outs, lses = [], []
    for first in range(0, max(1, rows), BLOCK_ROWS):
        block = slice(first, first + BLOCK_ROWS)
        i = position[:, :, block]
        limit = max(0, int(i.max()) + 1) if i.numel() else 0
        apart = i[..., None] // period - chunk[:limit]  # [B, Hkv, rows of the block, keys]
        hidden = torch.arange(limit, device=q.device) > i[..., None]
        if listed is not None:
            hidden = hidden | (apart > 1) & ~listed[:, :, block][..., chunk[:limit]]
        # a row that sees nothing may hold anything, and 0 × NaN is NaN
        blind, hidden, apart, p = (x.repeat_interleave(segments.group, 1) for x in (i < 0, hidden, apart, i % period))
        own = wide[:, :, block].masked_fill(blind[..., None], 0.0)
        previous, further = (turned(own, turns[by], interleaved) for by in ((clip - p).clamp_max(period), clip - p))
        near, before, far = (scores_of(x, keys[:, :, :limit], scale) for x in (own, previous, further))
        scores = torch.where(apart == 0, near, torch.where(apart == 1, before, far))
        # nor has it a log-sum-exp with a gradient
        scores = scores.masked_fill(hidden & ~blind[..., None], -torch.inf)
        lse = scores.logsumexp(-1)
        out = weighted_values((scores - lse[..., None]).exp(), values[:, :, :limit])
        outs.append(out.masked_fill(blind[..., None], 0.0))
        lses.append(lse.masked_fill(blind, -torch.inf))
    return torch.cat(outs, 2).to(q.dtype), torch.cat(lses, 2)


def row_positions(rows: int, lengths: Tensor, query_lengths: Tensor | None) -> Tensor:
    """[B, Hkv, Q]: where each row stands among the keys; negative where it sees nothing."""
    r = torch.arange(rows, device=lengths.device)
    if query_lengths is None:
        return lengths[..., None] - rows + r
    valid = query_lengths[:, None, None]
    return (lengths[..., None] - valid + r).masked_fill(r >= valid, -1)


def listed_chunks(chunks: Tensor, rows: int, tile_rows: int, count: int) -> Tensor:
    """[B, Hkv, Nt, K] → [B, Hkv, Q, count] bool: which chunks are listed for each row."""
    ids = torch.arange(count, device=chunks.device)
    tile = torch.arange(rows, device=chunks.device) // tile_rows
    return (chunks[..., None] == ids).any(-2)[:, :, tile]


def turned(q: Tensor, turns: Tensor, interleaved: bool) -> Tensor:
    """q [B, H, R, D] with its first channels turned by `turns` [B, H, R, channels]: cosines, then sines."""
    channels = turns.shape[-1]
    cos, sin = turns.to(q.dtype).chunk(2, -1)
    turning = q[..., :channels]
    if interleaved:
        a, b = turning.unflatten(-1, (-1, 2)).unbind(-1)
    else:
        a, b = turning.chunk(2, -1)
    pair = (a * cos - b * sin, b * cos + a * sin)
    first = torch.stack(pair, -1).flatten(-2) if interleaved else torch.cat(pair, -1)
    return torch.cat((first, q[..., channels:]), -1)


def check_dual_chunk_attention(
    q: Tensor,
    k_rows: Tensor,
    v_rows: Tensor,
    starts: Tensor,
    lengths: Tensor,
    turns: Tensor,
    period: int,
    query_lengths: Tensor | None,
    gains: Tensor | None,
    chunks: Tensor | None,
    tile_rows: int,
) -> None:
    a = Arguments("dual_chunk_attention")
    a.floats("q", q, "B H Q D")
    a.floats("k_rows", k_rows, "T D", like=q)
    a.floats("v_rows", v_rows, "T D", like=q)
    a.ints("starts", starts, "B Hkv")
    a.ints("lengths", lengths, "B Hkv")
    a.grouped()
    a.state("turns", turns, "P+1 R")
    dim, clip = q.shape[3], turns.shape[0] - 1
    a.number("R of turns", turns.shape[1], lambda n: n % 2 == 0 and n <= dim, f"even and ≤ D = {dim}")
    a.number("period", period, lambda n: 1 <= n <= clip, f"in 1..P = {clip}, the position of turns' last row")
    a.ints("query_lengths", query_lengths, "B")
    a.state("gains", gains, "B Q")
    if chunks is None:
        a.number("tile_rows", tile_rows, lambda n: n == 0, "0 without chunks")
    else:
        a.number("tile_rows", tile_rows, lambda n: n >= 1, "≥ 1 with chunks")
        a.sizes["Nt"] = -(-q.shape[2] // tile_rows)
        a.ints("chunks", chunks, "B Hkv Nt K")
