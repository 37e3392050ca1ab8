"""Which keys of a cache are kept."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcbench import ops, reference
from pcbench.reference.bits import pack_bits
from pcbench.reference.cache_selection import kept_first, keys_to_keep, row_masses
from pcbench.types import KVRows


def ints(*values):
    return torch.tensor(values, dtype=torch.int32)


def keep(mass, lengths, budget, **changes):
    """Of one kv-head with as many query heads as `mass` [P, H, L] has."""
    options = dict(recent=0, pool=1, first=0) | changes
    kept = keys_to_keep(torch.tensor(mass), torch.tensor(lengths, dtype=torch.int32), ints(budget), **options)
    return [row.nonzero().flatten().tolist() for row in kept[:, 0]]


def test_slots_are_one_line():
    mass = [[[5.0, 1.0, 0.0, 9.0]], [[2.0, 3.0, 4.0, 9.0]]]
    assert keep(mass, [[3], [3]], 3) == [[0], [1, 2]]
    # what lies beyond a length is not there, also for the pool: 1.0 and 2.0 are neighbours
    assert keep(mass, [[2], [3]], 2, pool=3) == [[0, 1], []]
    assert keep([[[0.0, 1.0, 9.0]], [[2.0, 0.0, 0.0]]], [[2], [3]], 2, pool=3) == [[1], [0]]


def test_recent_and_first_stay_whatever_they_received():
    mass = [[[0.0, 5.0, 5.0]], [[5.0, 5.0, 0.0]]]
    assert keep(mass, [[3], [3]], 3, recent=1, first=1) == [[0, 1], [2]]
    assert keep([[[0.0, 0.0, 5.0]], [[5.0, 5.0, 0.0]]], [[3], [3]], 3, first=2) == [[0, 1, 2], []]


def test_equal_keys_are_kept_in_reading_order():
    assert keep([[[1.0, 1.0]], [[1.0, 1.0]]], [[2], [2]], 3) == [[0, 1], [0]]


def test_a_hidden_key_received_nothing_and_goes_when_its_whole_group_is():
    mass = [[[9.0, 1.0, 2.0], [9.0, 1.0, 2.0]]]
    one = pack_bits(torch.tensor([[[True, False, False], [False, False, False]]]))
    both = pack_bits(torch.tensor([[[True, False, False]] * 2]))
    assert keep(mass, [[3]], 1, evicted=one) == [[0]]
    assert keep([[[9.0, 1.0, 2.0], [0.0, 1.0, 2.0]]], [[3]], 1, evicted=one) == [[2]]
    assert keep(mass, [[3]], 3, evicted=both) == [[1, 2]]


@given(st.integers(0, 999), st.integers(1, 30), st.sampled_from([1, 3, 7]))
def test_a_budget_is_kept_per_head_and_slots_are_chunks_of_one(seed, budget, pool):
    generator = torch.Generator().manual_seed(seed)
    mass = torch.rand(3, 4, 8, generator=generator)
    lengths = torch.randint(0, 9, (3, 2), generator=generator, dtype=torch.int32)
    kept = keys_to_keep(mass, lengths, ints(budget, budget), recent=2, pool=pool, first=0)
    assert kept.sum((0, 2)).tolist() == [min(budget, int(n)) for n in lengths.sum(0)]
    assert not (kept & (torch.arange(8) >= lengths[..., None])).any()
    # each head alone in one slot
    for head in range(2):
        line = torch.cat([mass[p, 2 * head : 2 * head + 2, : lengths[p, head]] for p in range(3)], 1)
        alone = keys_to_keep(line[None], ints(line.shape[1])[None], ints(budget), recent=2, pool=pool, first=0)[0, 0]
        assert torch.equal(alone, torch.cat([kept[p, head, : lengths[p, head]] for p in range(3)]))


def test_kept_first_is_a_permutation_in_order():
    kept = torch.tensor([[True, False, True, True], [False, False, False, True]])
    assert kept_first(kept).tolist() == [[0, 2, 3, 1], [3, 0, 1, 2]]


@pytest.mark.parametrize("count", [1, 3, 5])
def test_row_masses_are_the_rows_of_causal_attention(count):
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, n, 5, 16, generator=generator) for n in (4, 2))
    before = torch.randn(1, 2, 7, 16, generator=generator)
    longest = 8
    store = torch.zeros(2, 2, longest, 16)
    store[0, :, :7], store[1, :, :5] = before[0], k[0]
    rows = KVRows(
        k_rows=store.flatten(0, 2), v_rows=store.flatten(0, 2),
        starts=(torch.arange(4, dtype=torch.int32) * longest).view(2, 2), lengths=ints([7, 7], [5, 5]),
        evicted=None, longest=longest,
    )  # fmt: skip
    slots = ints([0, 1])
    _, lse = reference.cached_attention(
        q, rows.k_rows, rows.v_rows, rows.starts, rows.lengths, slots, scale=0.25, causal_last=True
    )
    found = row_masses(ops.backend("reference"), q, lse, rows, slots, count, scale=0.25)
    keys = torch.cat([before, k], 2).repeat_interleave(2, 1)
    mask = torch.cat([torch.ones(5, 7), torch.ones(5, 5).tril()], 1).bool()
    p = (q @ keys.transpose(2, 3) * 0.25).masked_fill(~mask, -torch.inf).softmax(-1)[0, :, -count:]
    assert torch.allclose(found[:, 0, :, :7], p[..., :7].transpose(0, 1), atol=1e-6)
    assert torch.allclose(found[:, 1, :, :5], p[..., 7:].transpose(0, 1), atol=1e-6)
    assert (found[:, 0, :, 7:] == 0).all()
