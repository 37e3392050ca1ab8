"""Properties of token selection."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from pcbench.reference import calibrated_attention, select_tokens
from pcbench.reference.bits import pack_bits

MASSES = st.lists(st.sampled_from([0.0, -0.0, 0.5, 1.0, 2.0, float("nan"), float("inf")]), min_size=1, max_size=40)


def rows(keys, dim=4):
    k = torch.arange(keys * dim, dtype=torch.float32).reshape(1, 1, keys, dim)
    return k, -k


def ints(*values):
    return torch.tensor(values, dtype=torch.int32)


@given(
    MASSES,
    st.integers(1, 12),
    st.sampled_from([1, 3, 7, 39, 2**62 + 1]),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(0, 40),
    st.sets(st.integers(0, 39), max_size=15),
)
def test_select_tokens_follows_its_rule(masses, capacity, pool, sink, recent, length, evicted):
    keys = len(masses)
    length = min(length, keys)
    bits = torch.tensor([[[j in evicted for j in range(keys)]]])
    index, lengths = select_tokens(
        torch.tensor([[masses]]),
        *rows(keys),
        capacity=capacity,
        key_lengths=ints([length]),
        pool=pool,
        sink=sink,
        recent=recent,
        evicted=pack_bits(bits),
    )[2:]
    plain = [-torch.inf if m != m else m for m in masses[:length]]

    def score(j):
        if j < sink or j >= length - recent:
            return torch.inf
        return max(plain[max(0, j - pool // 2) : j + pool // 2 + 1])

    candidates = [j for j in range(length) if j not in evicted]
    kept = sorted(sorted(candidates, key=lambda j: (-score(j), j))[:capacity])
    assert index[0, 0].tolist() == kept + [-1] * (capacity - len(kept))
    assert lengths.tolist() == [[len(kept)]]


@given(st.integers(0, 999), st.integers(1, 30))
def test_keeping_all_equals_full_attention(seed, keys):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(1, 2, n, 8, generator=generator, dtype=torch.float64) for n in (3, keys, keys))
    out, lse, mass = calibrated_attention(q, k, v, scale=0.3, causal=False, mass_rows=3)
    k2, v2, _, lengths = select_tokens(mass, k, v, capacity=keys + 2)
    assert lengths.tolist() == [[keys, keys]]
    again = calibrated_attention(q, k2, v2, scale=0.3, causal=False, key_lengths=lengths)
    torch.testing.assert_close(again[0], out, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(again[1], lse, rtol=1e-12, atol=1e-12)


def test_select_tokens_copies_bits_and_zeroes_the_rest():
    k, v = rows(5)
    k2, v2, index, lengths = select_tokens(torch.tensor([[[0.0, 3.0, 1.0, 2.0, 0.5]]]), k, v, capacity=7, pool=1)
    assert torch.equal(k2[0, 0, :5], k[0, 0])
    assert torch.equal(v2[0, 0, :5], v[0, 0])
    assert not k2[0, 0, 5:].any()
    assert not v2[0, 0, 5:].any()
    assert index.tolist() == [[[0, 1, 2, 3, 4, -1, -1]]]
    assert lengths.tolist() == [[5]]


def test_select_tokens_sums_the_heads_of_a_group():
    k, v = rows(4)
    mass = torch.tensor([[[0.0, 0.6, 0.0, 0.5], [0.0, 0.0, 0.0, 0.5]]])
    assert select_tokens(mass, k, v, capacity=1, pool=1)[2].tolist() == [[[3]]]


def test_budgets_are_by_head():
    k, v = rows(6)
    k, v = k.repeat(1, 2, 1, 1), v.repeat(1, 2, 1, 1)
    mass = torch.arange(6.0).repeat(1, 2, 1)
    index = select_tokens(mass, k, v, capacity=3, budgets=ints([1, 3]), pool=1)[2]
    assert index.tolist() == [[[5, -1, -1], [3, 4, 5]]]


def test_protected_keys_come_first():
    k, v = rows(6)
    protect = torch.tensor([[False, True, False, False, True, False]])
    index = select_tokens(torch.arange(6.0).repeat(1, 1, 1), k, v, capacity=3, pool=1, protect=protect)[2]
    assert index.tolist() == [[[1, 4, 5]]]
