"""Properties of attention over slots, in float64."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from pcbench.reference import cached_attention, calibrated_attention, window_mass
from pcbench.reference.bits import pack_bits

SCALE = 0.3
KV_HEADS = 2
LENGTHS = st.lists(st.lists(st.integers(0, 12), min_size=KV_HEADS, max_size=KV_HEADS), min_size=1, max_size=4)


def store(seed, lengths, dim=8):
    """k_rows, v_rows, starts, lengths of segments with gaps between them."""
    generator = torch.Generator().manual_seed(seed)
    starts, row = [], 1
    for slot in lengths:
        starts.append([])
        for length in slot:
            starts[-1].append(row)
            row += length + 2
    k, v = (torch.randn(row, dim, generator=generator, dtype=torch.float64) for _ in range(2))
    return k, v, *(torch.tensor(x, dtype=torch.int32) for x in (starts, lengths))


def queries(seed, rows, batch=1, heads=4, dim=8):
    generator = torch.Generator().manual_seed(seed + 1)
    return torch.randn(batch, heads, rows, dim, generator=generator, dtype=torch.float64)


def listed(rows, slots):
    return torch.tensor([slots] * rows, dtype=torch.int32)


def joined(rows, starts, lengths, slots, head):
    """[1, 1, S, D]: the segments one after another."""
    parts = [rows[starts[n, head] : starts[n, head] + lengths[n, head]] for n in slots]
    return torch.cat(parts)[None, None]


def equal(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@given(st.integers(0, 999), LENGTHS, st.integers(1, 4))
def test_slots_equal_concatenation(seed, lengths, rows):
    k, v, starts, sizes = store(seed, lengths)
    slots = list(range(len(lengths)))
    q = queries(seed, rows)
    out, lse = cached_attention(q, k, v, starts, sizes, listed(1, slots), scale=SCALE, causal_last=False)
    for h in range(KV_HEADS):
        heads = slice(2 * h, 2 * h + 2)
        keys = joined(k, starts, sizes, slots, h), joined(v, starts, sizes, slots, h)
        wanted = calibrated_attention(q[:, heads], *keys, scale=SCALE, causal=False)
        equal(out[:, heads], wanted[0])
        equal(lse[:, heads], wanted[1])


@given(st.integers(0, 999), LENGTHS, st.integers(1, 9))
def test_last_slot_is_causal(seed, lengths, own):
    # the last slot holds the rows' own keys, so the whole is the causal attention of the last rows
    lengths = [*lengths, [own] * KV_HEADS]
    k, v, starts, sizes = store(seed, lengths)
    slots = list(range(len(lengths)))
    q = queries(seed, own)
    out, lse = cached_attention(q, k, v, starts, sizes, listed(1, slots), scale=SCALE, causal_last=True)
    for h in range(KV_HEADS):
        heads = slice(2 * h, 2 * h + 2)
        keys = joined(k, starts, sizes, slots, h), joined(v, starts, sizes, slots, h)
        wanted = calibrated_attention(q[:, heads], *keys, scale=SCALE, causal=True)
        equal(out[:, heads], wanted[0])
        equal(lse[:, heads], wanted[1])


@given(st.integers(0, 999), LENGTHS, st.randoms(use_true_random=False))
def test_order_of_the_other_slots_does_not_matter(seed, lengths, random):
    lengths = [*lengths, [3] * KV_HEADS]
    k, v, starts, sizes = store(seed, lengths)
    *others, last = range(len(lengths))
    shuffled = random.sample([*others, -1, -1], len(others) + 2)
    q = queries(seed, 3)
    results = [
        cached_attention(q, k, v, starts, sizes, listed(1, slots), scale=SCALE, causal_last=True)
        for slots in ([*others, last], [*shuffled, last], [*shuffled, last, -1])
    ]
    for result in results[1:]:
        equal(result[0], results[0][0])
        equal(result[1], results[0][1])


@given(st.integers(0, 999), LENGTHS, st.integers(1, 5), st.booleans())
def test_window_mass_of_a_row_sums_to_one(seed, lengths, rows, causal_last):
    lengths = [*lengths, [rows] * KV_HEADS]
    k, v, starts, sizes = store(seed, lengths)
    slots = listed(1, list(range(len(lengths))))
    q = queries(seed, rows)
    where = (starts, sizes, slots)
    _, lse = cached_attention(q, k, v, *where, scale=SCALE, causal_last=causal_last)
    mass = window_mass(q, lse, k, *where, scale=SCALE, causal_last=causal_last, longest=12)
    assert mass.shape == (1, len(lengths), 4, 12)
    equal(mass.sum((1, 3)), torch.full((1, 4), float(rows), dtype=torch.float64))
    # a window of the last rows is part of it
    last = window_mass(q[:, :, -1:], lse[:, :, -1:], k, *where, scale=SCALE, causal_last=causal_last, longest=12)
    equal(last.sum((1, 3)), torch.ones(1, 4, dtype=torch.float64))
    assert bool((last <= mass + 1e-12).all())


@given(st.integers(0, 999), LENGTHS, st.integers(1, 4))
def test_shared_keys_equal_keys_of_their_own(seed, lengths, rows):
    k, v, starts, sizes = store(seed, lengths)
    where = (sizes, listed(1, list(range(len(lengths)))))
    # every slot has the keys of the last, and what lies behind them
    keys, shared, own = torch.cat([k, k.new_zeros(12, 8)]), starts[-1:].expand_as(starts), torch.zeros_like(k)
    for to, start, size in zip(*(x.flatten().tolist() for x in (starts, shared, sizes)), strict=True):
        own[to : to + size] = keys[start : start + size]
    q = queries(seed, rows)
    found = cached_attention(q, keys, v, shared, *where, scale=SCALE, causal_last=True, v_starts=starts)
    wanted = cached_attention(q, own, v, starts, *where, scale=SCALE, causal_last=True)
    equal(found[0], wanted[0])
    equal(found[1], wanted[1])


def test_evicted_bits_lie_over_a_segment():
    k, v, starts, sizes = store(0, [[40, 35], [9, 9]])
    bits = torch.zeros(2, KV_HEADS, 64, dtype=torch.bool)
    bits[0, 0, 33:] = True
    bits[1, 1, :] = True
    q = queries(0, 1)
    where = (starts, sizes, listed(1, [0, 1]))
    out, _ = cached_attention(q, k, v, *where, scale=SCALE, causal_last=True, evicted=pack_bits(bits))
    shorter = torch.tensor([[33, 35], [9, 0]], dtype=torch.int32)
    wanted, _ = cached_attention(q, k, v, starts, shorter, where[2], scale=SCALE, causal_last=False)
    equal(out, wanted)


def test_unused_places_and_empty_segments_are_invisible():
    k, v, starts, sizes = store(0, [[5, 0], [0, 0]])
    out, lse = cached_attention(
        queries(0, 2, batch=2), k, v, starts, sizes, listed(2, [-1, 1]), scale=SCALE, causal_last=True
    )
    assert not out.any()
    assert lse.isneginf().all()
