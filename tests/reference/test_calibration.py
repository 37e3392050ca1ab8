"""Properties of attention calibration."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from pcbench.reference import calibrated_attention
from pcbench.reference.calibration import fill_heads, keys_to_evict, zone_mask


@given(st.integers(0, 300), st.integers(0, 120))
def test_zones_are_a_partition(total, width):
    position = torch.arange(-3, total + 5)
    zones = torch.stack([zone_mask(zone, position, total, width) for zone in ("sink", "middle", "recent")])
    valid = zone_mask("all", position, total, width)
    assert torch.equal(zones.sum(0), valid.long())
    assert int(valid.sum()) == total
    assert int(zones[0].sum()) == min(width, total)


@given(st.integers(0, 999), st.integers(1, 8), st.floats(0.01, 1.0), st.floats(0.1, 20.0))
def test_fewer_keys_are_evicted_than_fit_the_threshold(seed, rows, threshold, sharpness):
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(1, 2, n, 8, generator=generator, dtype=torch.float64) for n in (rows, 60))
    mass = calibrated_attention(q * sharpness, k, k, scale=0.3, causal=False, mass_rows=rows)[2]
    everywhere = torch.ones(60, dtype=torch.bool)
    evicted = keys_to_evict(mass, rows, threshold, everywhere).sum(-1)
    assert bool((evicted * threshold < 1).all())


def test_only_keys_of_the_zone_are_evicted():
    mass = torch.tensor([5.0, 0.1, 5.0])
    zone = torch.tensor([True, True, False])
    assert keys_to_evict(mass, 8, 0.5, zone).tolist() == [True, False, False]


def test_threshold_is_exceeded_not_reached():
    assert not keys_to_evict(torch.tensor([4.0]), 8, 0.5, torch.tensor([True])).any()


def test_fill_heads_takes_the_least_attended_candidates_until_all_lost_as_many():
    evicted = torch.tensor([[True, True, False, False, False], [False, False, False, True, False]])
    mass = torch.tensor([[9.0, 9.0, 0.0, 0.0, 0.0], [0.3, 0.2, 0.1, 9.0, 0.0]])
    candidates = torch.tensor([True, True, True, True, False])
    filled = fill_heads(evicted, mass, candidates)
    assert filled.tolist() == [[True, True, False, False, False], [False, False, True, True, False]]
    # equal mass fills the lower index
    filled = fill_heads(evicted, torch.zeros(2, 5), candidates)
    assert filled[1].tolist() == [True, False, False, True, False]
    # nothing is left to fill with
    assert fill_heads(evicted, mass, torch.tensor([False] * 5)).tolist() == evicted.tolist()


@given(st.integers(0, 999))
def test_fill_heads_keeps_what_was_evicted_and_makes_equal_counts(seed):
    generator = torch.Generator().manual_seed(seed)
    mass, evicted = (torch.rand(3, 4, 20, generator=generator) for _ in range(2))
    filled = fill_heads(evicted > 0.8, mass, torch.tensor(True))
    counts = filled.sum(-1)
    assert bool((filled >= (evicted > 0.8)).all())
    assert torch.equal(counts, (evicted > 0.8).sum(-1).amax(1, keepdim=True).expand(3, 4))
