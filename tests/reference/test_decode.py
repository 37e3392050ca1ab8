"""Properties of attention of one new token over ragged segments, in float64."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from pcbench.reference import cached_attention, decode_attention, window_mass

SCALE = 0.3
KV_HEADS, GROUP, DIM = 2, 3, 8
LENGTHS = st.lists(st.lists(st.integers(0, 9), min_size=KV_HEADS, max_size=KV_HEADS), min_size=1, max_size=3)


def drawn(seed, lengths):
    """q, k_rows, v_rows, starts and lengths: segments one after another, in an order of their own."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.tensor(lengths, dtype=torch.int32)
    order = torch.randperm(sizes.numel(), generator=generator)
    starts = torch.empty_like(sizes).flatten()
    starts[order] = (sizes.flatten()[order].cumsum(0) - sizes.flatten()[order]).int()
    rows = int(sizes.sum())
    q, k, v = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((len(lengths), KV_HEADS * GROUP, 1, DIM), (rows, DIM), (rows, DIM))
    )
    return q, k, v, starts.view(sizes.shape), sizes


def equal(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@given(st.integers(0, 999), LENGTHS, st.integers(9, 12))
def test_every_segment_is_one_softmax_and_its_mass_the_sum_of_the_groups_weights(seed, lengths, longest):
    q, k, v, starts, sizes = drawn(seed, lengths)
    out, lse, mass = decode_attention(q, k, v, starts, sizes, scale=SCALE, longest=longest)
    assert mass.shape == (len(lengths), KV_HEADS, longest)
    for b, h in torch.cartesian_prod(torch.arange(len(lengths)), torch.arange(KV_HEADS)).tolist():
        rows, heads = slice(int(starts[b, h]), int(starts[b, h] + sizes[b, h])), slice(h * GROUP, (h + 1) * GROUP)
        scores = q[b, heads, 0] @ k[rows].T * SCALE
        weights = scores.softmax(-1)
        equal(out[b, heads, 0], weights @ v[rows])
        equal(lse[b, heads], scores.logsumexp(-1))
        equal(mass[b, h, : lengths[b][h]], weights.sum(0))
        assert not mass[b, h, lengths[b][h] :].any()


@given(st.integers(0, 999), LENGTHS)
def test_it_is_cached_attention_and_window_mass_with_heads_added_in_their_order(seed, lengths):
    q, k, v, starts, sizes = drawn(seed, lengths)
    where = (starts, sizes, torch.arange(len(lengths), dtype=torch.int32)[:, None])
    options = dict(scale=SCALE, causal_last=True)
    out, lse = cached_attention(q.float(), k.float(), v.float(), *where, **options)
    by_head = window_mass(q.float(), lse, k.float(), *where, **options, longest=9)[:, 0]
    added = (by_head[:, 0::GROUP] + by_head[:, 1::GROUP]) + by_head[:, 2::GROUP]
    found = decode_attention(q.float(), k.float(), v.float(), starts, sizes, scale=SCALE, longest=9)
    assert all(map(torch.equal, found, (out, lse[..., 0], added)))


@given(st.integers(0, 999), LENGTHS)
def test_keys_that_heads_share_have_values_of_their_own(seed, lengths):
    q, k, v, starts, sizes = drawn(seed, lengths)
    shared = torch.zeros_like(starts)
    keys = torch.randn(9, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    own = torch.zeros_like(k)
    for start, size in zip(starts.flatten().tolist(), sizes.flatten().tolist(), strict=True):
        own[start : start + size] = keys[:size]
    found = decode_attention(q, keys, v, shared, sizes, scale=SCALE, longest=9, v_starts=starts)
    wanted = decode_attention(q, own, v, starts, sizes, scale=SCALE, longest=9)
    for a, b in zip(found, wanted, strict=True):
        equal(a, b)
