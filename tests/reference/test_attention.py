"""Properties of attention and of merging states, in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcbench.reference import calibrated_attention, key_mass, merge_states
from pcbench.reference.bits import pack_bits

SCALE = 0.3
SEEDS = st.integers(0, 10_000)


def draw(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def qkv(seed, rows, keys, heads=4, kv_heads=2, batch=2, dim=8):
    return draw(seed, (batch, heads, rows, dim), (batch, kv_heads, keys, dim), (batch, kv_heads, keys, dim))


def attend(q, k, v, **options):
    return calibrated_attention(q, k, v, scale=SCALE, **{"causal": False, **options})


def equal(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def ints(*values):
    return torch.tensor(values, dtype=torch.int32)


@given(SEEDS, st.integers(1, 9), st.integers(1, 40), st.booleans())
def test_calibrated_attention_is_a_masked_softmax(seed, rows, keys, causal):
    q, k, v = qkv(seed, rows, keys)
    scores = q @ k.repeat_interleave(2, 1).transpose(-1, -2) * SCALE
    if causal:
        hidden = torch.arange(keys) > torch.arange(rows)[:, None] + keys - rows
        scores = scores.masked_fill(hidden, -torch.inf)
    p = scores.softmax(-1).nan_to_num(0.0)
    out, lse, mass = attend(q, k, v, causal=causal, mass_rows=3)
    equal(out, p @ v.repeat_interleave(2, 1))
    equal(lse, scores.logsumexp(-1))
    equal(mass, p[:, :, -3:].sum(2))


@given(SEEDS, st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_merge_states_is_associative_and_exact(seed, a, b, c):
    q, k, v = qkv(seed, 5, a + b + c)
    spans = [(0, a), (a, a + b), (a + b, a + b + c)]
    outs, lses = zip(*(attend(q, k[:, :, i:j], v[:, :, i:j])[:2] for i, j in spans), strict=True)
    whole = attend(q, k, v)[:2]
    at_once = merge_states(torch.stack(outs), torch.stack(lses))
    left = merge_states(torch.stack(outs[:2]), torch.stack(lses[:2]))
    step = merge_states(torch.stack([left[0], outs[2]]), torch.stack([left[1], lses[2]]))
    for found in (at_once, step):
        equal(found[0], whole[0])
        equal(found[1], whole[1])


@given(SEEDS, st.permutations(range(4)))
def test_merge_states_does_not_depend_on_the_order_of_parts(seed, order):
    outs, lses = draw(seed, (4, 1, 2, 3, 8), (4, 1, 2, 3))
    for a, b in zip(merge_states(outs, lses), merge_states(outs[order], lses[order]), strict=True):
        equal(a, b)


@given(SEEDS, st.integers(0, 20), st.integers(0, 20))
def test_incoming_state_equals_more_keys(seed, before, now):
    q, k, v = qkv(seed, 4, before + now)
    out_in, lse_in, _ = attend(q, k[:, :, :before], v[:, :, :before])
    out, lse, mass = attend(q, k[:, :, before:], v[:, :, before:], out_in=out_in, lse_in=lse_in, mass_rows=2)
    whole = attend(q, k, v, mass_rows=2)
    equal(out, whole[0])
    equal(lse, whole[1])
    equal(mass, whole[2][..., before:])


@given(SEEDS, st.integers(1, 9), st.integers(9, 40), st.booleans())
def test_mass_of_r_rows_sums_to_r(seed, mass_rows, keys, causal):
    mass = attend(*qkv(seed, 9, keys), causal=causal, mass_rows=mass_rows)[2]
    equal(mass.sum(-1), torch.full(mass.shape[:2], float(mass_rows), dtype=torch.float64))


@given(
    SEEDS,
    st.lists(st.integers(0, 8), min_size=2, max_size=2),
    st.lists(st.integers(0, 20), min_size=4, max_size=4),
    st.integers(0, 10),
    st.booleans(),
)
def test_key_mass_is_the_mass_of_calibrated_attention(seed, rows, keys, mass_rows, causal):
    q, k, v = qkv(seed, 8, 20)
    options = {"causal": causal, "mass_rows": mass_rows}
    lengths = {"query_lengths": ints(*rows), "key_lengths": ints(keys[:2], keys[2:])}
    for ragged in ({}, lengths):
        _, lse, mass = attend(q, k, v, **options, **ragged)
        equal(key_mass(q, k, lse, scale=SCALE, **options, **ragged), mass)
    # what no mass is of may be anything
    for b in range(2):
        other = torch.ones(8, dtype=torch.bool)
        other[max(0, rows[b] - mass_rows) : rows[b]] = False
        q[b, :, other], lse[b, :, other] = torch.nan, torch.nan
        for h in range(2):
            k[b, h, keys[2 * b + h] :] = torch.nan
    equal(key_mass(q, k, lse, scale=SCALE, **options, **lengths), mass)


@given(SEEDS, st.integers(0, 20), st.integers(0, 20))
def test_key_mass_of_parts_of_the_keys_is_a_part_of_the_mass(seed, before, now):
    q, k, v = qkv(seed, 4, before + now)
    _, lse, mass = attend(q, k, v, mass_rows=2)
    parts = (key_mass(q, x, lse, scale=SCALE, causal=False, mass_rows=2) for x in k.split([before, now], 2))
    equal(torch.cat([*parts], -1), mass)


@given(SEEDS, st.integers(0, 8), st.lists(st.integers(0, 20), min_size=2, max_size=2))
def test_lengths_equal_slices(seed, rows, keys):
    q, k, v = qkv(seed, 8, 20, kv_heads=2)
    lengths = {"query_lengths": ints(rows, 8), "key_lengths": ints(keys, [20, 20])}
    k2, v2 = k.clone(), v.clone()
    for h in range(2):
        k2[0, h, keys[h] :], v2[0, h, keys[h] :] = torch.nan, torch.inf
    out, lse, mass = attend(q, k2, v2, causal=True, mass_rows=3, **lengths)
    for h in range(2):
        heads = slice(2 * h, 2 * h + 2)
        one = (x[:1, h : h + 1, : keys[h]] for x in (k, v))
        wanted = attend(q[:1, heads, :rows], *one, causal=True, mass_rows=3)
        equal(out[:1, heads, :rows], wanted[0])
        equal(lse[:1, heads, :rows], wanted[1])
        equal(mass[:1, heads, : keys[h]], wanted[2])
        assert not mass[0, heads, keys[h] :].any()
    assert not out[0, :, rows:].any()
    assert lse[0, :, rows:].isneginf().all()


@given(SEEDS, st.sets(st.integers(0, 39), max_size=40))
def test_evicting_keys_equals_removing_them(seed, evicted):
    q, k, v = qkv(seed, 3, 40)
    bits = torch.zeros(2, 2, 40, dtype=torch.bool)
    bits[..., sorted(evicted)] = True
    out, lse, mass = attend(q, k, v, evicted=pack_bits(bits), mass_rows=3)
    left = ~bits[0, 0]
    wanted = attend(q, k[:, :, left], v[:, :, left], mass_rows=3)
    equal(out, wanted[0])
    equal(lse, wanted[1])
    equal(mass[..., left], wanted[2])
    assert not mass[..., ~left].any()


def test_evicting_by_query_head_concerns_that_head_alone():
    q, k, v = qkv(0, 3, 40)
    bits = torch.zeros(2, 4, 40, dtype=torch.bool)
    bits[:, 1, :7] = True
    out = attend(q, k, v, evicted=pack_bits(bits))[0]
    whole, less = attend(q, k, v)[0], attend(q, k[:, :, 7:], v[:, :, 7:])[0]
    equal(out[:, [0, 2, 3]], whole[:, [0, 2, 3]])
    equal(out[:, 1], less[:, 1])


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 600])
def test_blocks_of_rows_do_not_show(rows):
    q, k, v = qkv(0, rows, rows, heads=2, kv_heads=1, batch=1)
    out, lse, mass = attend(q, k, v, causal=True, mass_rows=300)
    last = attend(q[:, :, -1:], k, v, causal=True)[0]
    equal(out[:, :, -1:], last)
    equal(mass.sum(-1), torch.full((1, 2), min(300.0, rows), dtype=torch.float64))
    equal(key_mass(q, k, lse, scale=SCALE, causal=True, mass_rows=300), mass)


def test_row_that_sees_nothing_is_zero():
    q, k, v = qkv(0, 3, 5)
    out, lse, mass = attend(q, k, v, evicted=pack_bits(torch.ones(2, 2, 5, dtype=torch.bool)), mass_rows=2)
    assert not out.any()
    assert lse.isneginf().all()
    assert not mass.any()
