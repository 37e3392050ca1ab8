"""Attention in Triton: for GPUs and head dims that no compiled kernel covers.

Letters: as in `pcbench.reference.attention` and `pcbench.reference.cached`; M rows and N keys of a tile, C the power of
two that holds D. Scores, weights' sums and masses are float32 to base 2, and products of float32 are those of IEEE.
Online softmax after FlashAttention, arXiv:2205.14135; split keys after FlashDecoding.
"""

import triton
import triton.language as tl

__all__ = ["attend", "attend_cached", "merge", "weigh", "weigh_cached"]

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _loaded(rows, index, row, DIM: tl.constexpr, C: tl.constexpr, present):
    """[n] row numbers → [n, C] of them, 0 where not present and beyond D."""
    d = tl.arange(0, C)
    places = rows + index[:, None].to(tl.int64) * row + d[None, :]
    return tl.load(places, mask=present[:, None] & (d < DIM)[None, :], other=0.0)


@triton.jit
def _decoded(
    codes, scales, zeros, row, DIM: tl.constexpr, C: tl.constexpr, present, FORMAT: tl.constexpr,
    BY_CHANNEL: tl.constexpr,
):  # fmt: skip
    """[n] row numbers of a quantised store → [n, C] of them in float32, 0 where not present and beyond D.

    Layouts are those of `pcbench.reference.quantized`; scales are a channel's of 64 rows, or a row's.
    """
    d = tl.arange(0, C)
    inside = present[:, None] & (d < DIM)[None, :]
    if FORMAT == "int4":
        byte = tl.load(codes + row[:, None] * (DIM // 2) + (d % (DIM // 2))[None, :], mask=inside, other=0).to(tl.int32)
        x = tl.where((d < DIM // 2)[None, :], byte & 15, byte >> 4).to(tl.float32)
    elif FORMAT == "fp8":
        byte = tl.load(codes + row[:, None] * DIM + d[None, :], mask=inside, other=0).to(tl.int32)
        # exponents count from 7 in place of 127; one of 0 counts eighths of 2^-6
        wide = (((byte & 0x7F) << 20) + (120 << 23)).to(tl.float32, bitcast=True)
        x = tl.where((byte & 0x78) == 0, (byte & 7).to(tl.float32) * 0.001953125, wide)
        x = tl.where((byte & 0x7F) == 0x7F, float("nan"), tl.where((byte & 0x80) != 0, -x, x))
    else:
        x = tl.load(codes + row[:, None] * DIM + d[None, :], mask=inside, other=0).to(tl.float32)
    if BY_CHANNEL:
        at = (row // 64)[:, None] * DIM + d[None, :]
        x = x * tl.load(scales + at, mask=inside, other=0.0).to(tl.float32)
        if FORMAT == "int4":
            x += tl.load(zeros + at, mask=inside, other=0.0).to(tl.float32)
    else:
        x = x * tl.load(scales + row, mask=present, other=0.0).to(tl.float32)[:, None]
        if FORMAT == "int4":
            x += tl.load(zeros + row, mask=present, other=0.0).to(tl.float32)[:, None]
    return tl.where(inside, x, 0.0)


@triton.jit
def _evicted(bits, key, present):
    """[n] keys of a row of bits → whether each is evicted."""
    word = tl.load(bits + key // 32, mask=present, other=0)
    return ((word >> (key % 32)) & 1) != 0


@triton.jit
def _taken(q, k, v, visible, scale, out, base, total):
    """Takes a tile of keys [N, C] and values [N, C] into the online softmax of M rows: weights are 2^(score − base)."""
    scores = tl.dot(q, tl.trans(k), input_precision="ieee") * (scale * LOG2_E)
    scores = tl.where(visible, scores, float("-inf"))
    # weights of float16 reach 2^13, or those of 2^-24 of the largest would be 0
    room: tl.constexpr = 13.0 if v.dtype == tl.float16 else 0.0
    largest = tl.maximum(base, tl.max(scores, 1) - room)
    safe = tl.where(largest == float("-inf"), 0.0, largest)
    weights = tl.exp2(scores - safe[:, None])
    kept = tl.exp2(base - safe)
    total = total * kept + tl.sum(weights, 1)
    out = out * kept[:, None] + tl.dot(weights.to(v.dtype), v, input_precision="ieee")
    return out, largest, total


@triton.jit
def _finished(out, base, total):
    """Output and natural log-sum-exp of rows; 0 and −inf where nothing was seen, NaN and inf as they come."""
    seen = total != 0
    divisor = tl.where(seen, total, 1.0)
    lse = tl.where(base == float("inf"), base, (base + tl.log2(divisor)) * LN_2)
    return out / divisor[:, None], tl.where(seen, lse, float("-inf"))


@triton.jit
def attend(
    q, k, v, out, lse, query_lengths, key_lengths, evicted, out_in, lse_in, scale, heads, group, rows, keys,
    q_b, q_h, q_r, k_b, k_h, k_r, v_b, v_h, v_r, length_b, length_h, bits_b, bits_h, in_b, in_h, in_r, state_b, state_h,
    DIM: tl.constexpr, C: tl.constexpr, M: tl.constexpr, N: tl.constexpr, CAUSAL: tl.constexpr,
    QUERY_LENGTHS: tl.constexpr, KEY_LENGTHS: tl.constexpr, EVICTED: tl.constexpr, STATE: tl.constexpr,
) -> None:  # fmt: skip
    """`calibrated_attention` without its mass: M rows of one (b, h) a program.

    Strides are in elements. EVICTED: whether there are bits; STATE: whether an attention over other keys comes in.
    """
    b = (tl.program_id(1) // heads).to(tl.int64)
    h = (tl.program_id(1) % heads).to(tl.int64)
    of_group = h // group
    valid_rows, valid_keys = rows, keys
    if QUERY_LENGTHS:
        valid_rows = tl.minimum(rows, tl.maximum(0, tl.load(query_lengths + b)))
    if KEY_LENGTHS:
        valid_keys = tl.minimum(keys, tl.maximum(0, tl.load(key_lengths + b * length_b + of_group * length_h)))
    row = tl.program_id(0) * M + tl.arange(0, M)
    there = row < rows
    tile = _loaded(q + b * q_b + h * q_h, row, q_r, DIM, C, there)
    sums = tl.zeros((M, C), tl.float32)
    base = tl.full((M,), float("-inf"), tl.float32)
    total = tl.zeros((M,), tl.float32)
    if STATE:
        before = tl.load(lse_in + b * state_b + h * state_h + row, mask=there, other=float("-inf"))
        known = before != float("-inf")
        base = before * LOG2_E
        total = tl.where(known, 1.0, 0.0)
        old = _loaded(out_in + b * in_b + h * in_h, row, in_r, DIM, C, there)
        sums = tl.where(known[:, None], old, 0.0)
    end = valid_keys
    if CAUSAL:
        last = tl.minimum(tl.program_id(0) * M + M, valid_rows)
        end = tl.minimum(valid_keys, tl.maximum(0, last + valid_keys - valid_rows))
    if tl.program_id(0) * M >= valid_rows:
        end = 0
    for first in range(0, end, N):
        key = first + tl.arange(0, N)
        present = key < valid_keys
        seen = present
        if EVICTED:
            seen = seen & ~_evicted(evicted + b * bits_b + h * bits_h, key, present)
        visible = seen[None, :] & (row < valid_rows)[:, None]
        if CAUSAL:
            visible = visible & (key[None, :] <= row[:, None] + valid_keys - valid_rows)
        keys_tile = _loaded(k + b * k_b + of_group * k_h, key, k_r, DIM, C, present)
        values_tile = _loaded(v + b * v_b + of_group * v_h, key, v_r, DIM, C, present)
        sums, base, total = _taken(tile, keys_tile, values_tile, visible, scale, sums, base, total)
    result, state = _finished(sums, base, total)
    place = (tl.program_id(1).to(tl.int64) * rows + row) * DIM
    d = tl.arange(0, C)
    tl.store(
        out + place[:, None] + d[None, :], result.to(out.dtype.element_ty), mask=there[:, None] & (d < DIM)[None, :]
    )
    tl.store(lse + tl.program_id(1).to(tl.int64) * rows + row, state, mask=there)


@triton.jit
def weigh(
    q, k, lse, mass, query_lengths, key_lengths, evicted, scale, heads, group, rows, keys, window,
    q_b, q_h, q_r, k_b, k_h, k_r, state_b, state_h, length_b, length_h, bits_b, bits_h,
    DIM: tl.constexpr, C: tl.constexpr, M: tl.constexpr, N: tl.constexpr, CAUSAL: tl.constexpr,
    QUERY_LENGTHS: tl.constexpr, KEY_LENGTHS: tl.constexpr, EVICTED: tl.constexpr,
) -> None:  # fmt: skip
    """The mass of N keys of one (b, h): the attention they receive from the last `window` valid rows, given lse."""
    b = (tl.program_id(1) // heads).to(tl.int64)
    h = (tl.program_id(1) % heads).to(tl.int64)
    of_group = h // group
    valid_rows, valid_keys = rows, keys
    if QUERY_LENGTHS:
        valid_rows = tl.minimum(rows, tl.maximum(0, tl.load(query_lengths + b)))
    if KEY_LENGTHS:
        valid_keys = tl.minimum(keys, tl.maximum(0, tl.load(key_lengths + b * length_b + of_group * length_h)))
    key = tl.program_id(0) * N + tl.arange(0, N)
    present = key < valid_keys
    seen = present
    if EVICTED:
        seen = seen & ~_evicted(evicted + b * bits_b + h * bits_h, key, present)
    received = tl.zeros((N,), tl.float32)
    for first in range(tl.maximum(0, valid_rows - window), valid_rows, M):
        row = first + tl.arange(0, M)
        there = row < valid_rows
        state = tl.load(lse + b * state_b + h * state_h + row, mask=there, other=float("-inf"))
        there = there & (state != float("-inf"))
        visible = seen[None, :] & there[:, None]
        if CAUSAL:
            visible = visible & (key[None, :] <= row[:, None] + valid_keys - valid_rows)
        queries = _loaded(q + b * q_b + h * q_h, row, q_r, DIM, C, there)
        # read again for each tile of rows, mostly one: held, float32 keys would fill the registers
        keys_tile = _loaded(k + b * k_b + of_group * k_h, key, k_r, DIM, C, present)
        scores = tl.dot(queries, tl.trans(keys_tile), input_precision="ieee") * (scale * LOG2_E)
        state = tl.where(there, state, 0.0)
        weights = tl.where(visible, tl.exp2(scores - state[:, None] * LOG2_E), 0.0)
        received += tl.sum(weights, 0)
    tl.store(mass + tl.program_id(1).to(tl.int64) * keys + key, received, mask=key < keys)


@triton.jit
def _length(starts, lengths, v_starts, slot, slots_in_store, stored, values, s_n, l_n, v_n, h):
    """Rows of the segment of (slot, kv-head); 0 of an unused slot and of what lies outside the store."""
    used = (slot >= 0) & (slot < slots_in_store)
    at = tl.where(used, slot, 0).to(tl.int64)
    start = tl.load(starts + at * s_n + h)
    v_start = tl.load(v_starts + at * v_n + h)
    length = tl.load(lengths + at * l_n + h)
    inside = (start >= 0) & (v_start >= 0) & (length >= 0)
    inside = inside & (start.to(tl.int64) + length <= stored) & (v_start.to(tl.int64) + length <= values)
    return tl.where(used & inside, length, 0), start.to(tl.int64), v_start.to(tl.int64)


@triton.jit
def attend_cached(
    q, k_rows, v_rows, k_scales, k_zeros, v_scales, v_zeros, starts, lengths, v_starts, slots, evicted, outs, lses,
    scale, heads, together, group, rows,
    listed, slots_in_store, stored, values, q_b, q_h, q_r, k_r, v_r, s_n, l_n, v_n, slots_b, bits_n, bits_h, words,
    splits, DIM: tl.constexpr, C: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
    CAUSAL_LAST: tl.constexpr, EVICTED: tl.constexpr, FORMAT: tl.constexpr,
) -> None:  # fmt: skip
    """One split of the keys for M rows of `together` heads that share keys and bits, rows being (position, head).

    The listed segments are laid end to end, each rounded up to N keys, and divided into spans, one a split; each leaves
    its output [splits, B, H, Q, D] and log-sum-exp behind for `merge`. A row of bits has so many `words`.
    FORMAT is "" where rows are of the dtype of q; else they are codes, and products are float32.
    """
    shares = heads // together
    b = (tl.program_id(1) // shares).to(tl.int64)
    of_bits = tl.program_id(1) % shares
    g = of_bits * together // group
    split = tl.program_id(2)
    index = tl.program_id(0) * M + tl.arange(0, M)
    there = index < rows * together
    position, head = index // together, (of_bits * together + index % together).to(tl.int64)
    d = tl.arange(0, C)
    places = q + b * q_b + head[:, None] * q_h + position[:, None].to(tl.int64) * q_r + d[None, :]
    tile = tl.load(places, mask=there[:, None] & (d < DIM)[None, :], other=0.0)
    if FORMAT != "":
        tile = tile.to(tl.float32)
    tiles, last = 0, -1
    for p in range(listed):
        slot = tl.load(slots + b * slots_b + p)
        length, _, _ = _length(starts, lengths, v_starts, slot, slots_in_store, stored, values, s_n, l_n, v_n, g)
        tiles += (length + N - 1) // N
        last = tl.where(slot >= 0, p, last)
    span = (tiles + splits - 1) // splits
    sums = tl.zeros((M, C), tl.float32)
    base = tl.full((M,), float("-inf"), tl.float32)
    total = tl.zeros((M,), tl.float32)
    origin = 0
    for p in range(listed):
        slot = tl.load(slots + b * slots_b + p)
        length, start, v_start = _length(
            starts, lengths, v_starts, slot, slots_in_store, stored, values, s_n, l_n, v_n, g
        )
        count = (length + N - 1) // N
        begin = tl.minimum(count, tl.maximum(0, split * span - origin))
        end = tl.minimum(count, tl.maximum(0, (split + 1) * span - origin))
        for t in range(begin, end):
            key = t * N + tl.arange(0, N)
            present = key < length
            seen = present
            if EVICTED:
                bits = evicted + slot.to(tl.int64) * bits_n + of_bits * bits_h
                seen = seen & ~_evicted(bits, key, present & (key < 32 * words))
            visible = seen[None, :] & there[:, None]
            if CAUSAL_LAST:
                latest = tl.where(p == last, position + length - rows, length)
                visible = visible & (key[None, :] <= latest[:, None])
            if FORMAT == "":
                keys_tile = _loaded(k_rows + start * k_r, key, k_r, DIM, C, present)
                values_tile = _loaded(v_rows + v_start * v_r, key, v_r, DIM, C, present)
            else:
                keys_tile = _decoded(k_rows, k_scales, k_zeros, start + key, DIM, C, present, FORMAT, True)
                values_tile = _decoded(v_rows, v_scales, v_zeros, v_start + key, DIM, C, present, FORMAT, False)
            sums, base, total = _taken(tile, keys_tile, values_tile, visible, scale, sums, base, total)
        origin += count
    result, state = _finished(sums, base, total)
    batch = tl.num_programs(1) // shares
    place = ((split.to(tl.int64) * batch + b) * heads + head) * rows + position
    tl.store(outs + place[:, None] * DIM + d[None, :], result, mask=there[:, None] & (d < DIM)[None, :])
    tl.store(lses + place, state, mask=there)


@triton.jit
def merge(
    outs, lses, out, lse, parts, rows, DIM: tl.constexpr, C: tl.constexpr, M: tl.constexpr,
) -> None:  # fmt: skip
    """M rows of several attentions as one: outs [parts, rows, D], lses [parts, rows]."""
    row = (tl.program_id(0) * M + tl.arange(0, M)).to(tl.int64)
    there = row < rows
    d = tl.arange(0, C)
    inside = there[:, None] & (d < DIM)[None, :]
    base = tl.full((M,), float("-inf"), tl.float32)
    place = row
    for _ in range(parts):
        base = tl.maximum(base, tl.load(lses + place, mask=there, other=float("-inf")) * LOG2_E)
        place += rows
    safe = tl.where(base == float("-inf"), 0.0, base)
    total = tl.zeros((M,), tl.float32)
    sums = tl.zeros((M, C), tl.float32)
    place = row
    for _ in range(parts):
        state = tl.load(lses + place, mask=there, other=float("-inf"))
        weight = tl.exp2(state * LOG2_E - safe)
        # a part that saw nothing may hold anything
        seen = inside & (state != float("-inf"))[:, None]
        sums += weight[:, None] * tl.load(outs + place[:, None] * DIM + d[None, :], mask=seen, other=0.0)
        total += weight
        place += rows
    result, state = _finished(sums, base, total)
    tl.store(out + row[:, None] * DIM + d[None, :], result.to(out.dtype.element_ty), mask=inside)
    tl.store(lse + row, state, mask=there)


@triton.jit
def weigh_cached(
    q, lse, k_rows, starts, lengths, slots, mass, scale, heads, group, rows, listed, slots_in_store, stored, longest,
    q_b, q_h, q_r, k_r, s_n, l_n, slots_b, state_b, state_h,
    DIM: tl.constexpr, C: tl.constexpr, M: tl.constexpr, N: tl.constexpr, CAUSAL_LAST: tl.constexpr,
) -> None:  # fmt: skip
    """`window_mass` of N keys of one listed segment and head."""
    b = (tl.program_id(2) // heads).to(tl.int64)
    h = (tl.program_id(2) % heads).to(tl.int64)
    place = tl.program_id(1)
    last = -1
    for p in range(listed):
        last = tl.where(tl.load(slots + b * slots_b + p) >= 0, p, last)
    slot = tl.load(slots + b * slots_b + place)
    length, start, _ = _length(starts, lengths, starts, slot, slots_in_store, stored, stored, s_n, l_n, s_n, h // group)
    key = tl.program_id(0) * N + tl.arange(0, N)
    present = key < tl.minimum(length, longest)
    received = tl.zeros((N,), tl.float32)
    for first in range(0, rows, M):
        row = first + tl.arange(0, M)
        there = row < rows
        state = tl.load(lse + b * state_b + h * state_h + row, mask=there, other=float("-inf"))
        there = there & (state != float("-inf"))
        visible = present[None, :] & there[:, None]
        if CAUSAL_LAST:
            latest = tl.where(place == last, row + length - rows, length)
            visible = visible & (key[None, :] <= latest[:, None])
        queries = _loaded(q + b * q_b + h * q_h, row, q_r, DIM, C, there)
        keys_tile = _loaded(k_rows + start * k_r, key, k_r, DIM, C, present)
        scores = tl.dot(queries, tl.trans(keys_tile), input_precision="ieee") * (scale * LOG2_E)
        state = tl.where(there, state, 0.0)
        received += tl.sum(tl.where(visible, tl.exp2(scores - state[:, None] * LOG2_E), 0.0), 0)
    to = ((b * listed + place) * heads + h) * longest + key
    tl.store(mass + to, received, mask=key < longest)
