"""Dual Chunk Attention from its matrix of relative positions, and calls of the op for the same sequences."""

import torch

__all__ = ["call_of", "dense", "drawn", "frequencies_of", "positions", "rope", "turns_of"]


def positions(length, period, clip):
    """[L, L]: the distance at which row i sees key j; what lies above the diagonal means nothing."""
    i, j = torch.arange(length)[:, None], torch.arange(length)
    p, apart = i % period, i // period - j // period
    index = torch.where(apart == 0, p, torch.where(apart == 1, (p + period).clamp_max(clip), clip))
    return index - j % period


def frequencies_of(channels, base=100.0):
    """[channels / 2] of a rotary embedding; other kinds of it have others."""
    return base ** -(torch.arange(0, channels, 2, dtype=torch.float64) / max(1, channels))


def turns_of(clip, frequencies):
    """The op's table of turns by 0..clip positions."""
    angles = torch.arange(clip + 1, dtype=torch.float64)[:, None] * frequencies
    return torch.cat((angles.cos(), angles.sin()), -1)


def rope(x, at, frequencies, interleaved):
    """x [..., L, D] rotated at positions `at` [L] or one for all, as complex numbers."""
    channels = 2 * len(frequencies)
    if not channels:
        return x
    angles = torch.as_tensor(at, dtype=torch.float64)[..., None] * frequencies
    turning = x[..., :channels]
    pairs = turning.unflatten(-1, (-1, 2)) if interleaved else turning.unflatten(-1, (2, -1)).transpose(-1, -2)
    rotated = torch.view_as_complex(pairs.contiguous()) * torch.polar(torch.ones_like(angles), angles)
    rotated = torch.view_as_real(rotated)
    rotated = rotated.flatten(-2) if interleaved else rotated.transpose(-1, -2).flatten(-2)
    return torch.cat((rotated, x[..., channels:]), -1)


def dense(q, k, v, *, period, clip, scale, frequencies, interleaved=False, gains=None, keep=None):
    """One softmax over scores at the matrix's distances.

    Args:
        q, k, v: [H, L, D], [Hkv, L, D], [Hkv, L, D] float64, not rotated.
        gains: [L], multiplies the scale of each row.
        keep: [Hkv, L, L] bool, pairs that are seen; None means all.
    """
    group, length = q.shape[0] // k.shape[0], q.shape[1]
    k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
    distance = positions(length, period, clip)
    scores = torch.zeros(q.shape[0], length, length, dtype=torch.float64)
    for m in distance.tril().unique().tolist():
        scores = torch.where(distance == m, rope(q, m, frequencies, interleaved) @ k.transpose(-1, -2), scores)
    scores = scores * scale if gains is None else scores * scale * gains[:, None]
    seen = torch.ones(length, length, dtype=torch.bool).tril()
    if keep is not None:
        seen = seen & keep.repeat_interleave(group, 0)
    scores = scores.masked_fill(~seen, -torch.inf)
    return scores.softmax(-1) @ v, scores.logsumexp(-1)


def drawn(seed, length, heads=2, kv_heads=1, dim=64):
    """q [H, L, D], k and v [Hkv, L, D] of a sequence, not rotated."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((heads, length, dim), (kv_heads, length, dim), (kv_heads, length, dim))
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def call_of(sequences, *, period, clip, scale, frequencies, interleaved=False, rows=None, dtype=torch.float64, **more):
    """Arguments of the op for the last rows of sequences (q, k, v), with NaN between the segments.

    Args:
        rows: of every sequence; None means all of the longest, those of shorter ones first.
    """
    heads, kv_heads, dim = len(sequences[0][0]), len(sequences[0][1]), sequences[0][0].shape[-1]
    lengths = [k.shape[1] for _, k, _ in sequences]
    count = max(lengths) if rows is None else rows
    valid = [min(count, length) for length in lengths]
    queries = torch.full((len(sequences), heads, count, dim), torch.nan, dtype=torch.float64)
    row, starts, stored = 2, [], [torch.full((2, 2, dim), torch.nan, dtype=torch.float64)]
    for b, (q, k, v) in enumerate(sequences):
        at = torch.arange(lengths[b]) % period
        rotated = rope(q, at, frequencies, interleaved)
        queries[b, :, : valid[b]] = rotated[:, lengths[b] - valid[b] :]
        starts.append([])
        for key, value in zip(rope(k, at, frequencies, interleaved), v, strict=True):
            starts[b].append(row)
            row += lengths[b] + 1
            stored += [torch.stack((key, value)), torch.full((2, 1, dim), torch.nan, dtype=torch.float64)]
    k_rows, v_rows = torch.cat(stored, 1)
    return {
        "q": queries.to(dtype),
        "k_rows": k_rows.to(dtype),
        "v_rows": v_rows.to(dtype),
        "starts": torch.tensor(starts, dtype=torch.int32),
        "lengths": torch.tensor([[length] * kv_heads for length in lengths], dtype=torch.int32),
        "turns": turns_of(clip, frequencies).to(dtype if dtype == torch.float64 else torch.float32),
        "scale": scale,
        "period": period,
        "interleaved": interleaved,
        "query_lengths": torch.tensor(valid, dtype=torch.int32),
        **more,
    }
