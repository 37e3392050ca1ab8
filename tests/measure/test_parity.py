"""The comparisons themselves: what they must let through and what they must catch."""

import math

import pytest
import torch

from pcbench.measure.parity import (
    Comparison,
    compare_exact,
    compare_lse,
    compare_mass,
    compare_out,
    row_error,
    worst,
)

F32 = torch.float32


def truth_rows(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_compare_out_accepts_rounding():
    truth = truth_rows(1000, 64)
    found = compare_out(truth.float(), truth, truth.float(), F32)
    assert found.ok
    assert 0 < found.err < 1e-7


def test_compare_out_rejects_one_wrong_row_in_a_million():
    truth = truth_rows(1_000_000, 4)
    out = truth.float()
    out[765_432] *= 1 + 1e-5
    assert not compare_out(out, truth, truth.float(), F32).ok
    # which an error over all rows would have missed
    assert float((out - truth).norm() / truth.norm()) < 1e-7


def test_compare_out_rejects_a_swapped_head():
    truth = truth_rows(2, 8, 100, 64)
    out = truth.float()
    out[1, [2, 5]] = out[1, [5, 2]]
    assert not compare_out(out, truth, truth.float(), F32).ok


def test_compare_out_allows_twice_the_error_of_the_reference():
    truth = truth_rows(10, 64)
    own = truth * (1 + 1e-4)
    assert compare_out(truth * (1 + 1.9e-4), truth, own, F32).ok
    assert not compare_out(truth * (1 + 2.1e-4), truth, own, F32).ok


@pytest.mark.parametrize(("dtype", "floor"), [(F32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 8e-3)])
def test_compare_out_has_a_floor_for_each_dtype(dtype, floor):
    truth = truth_rows(10, 64)
    assert compare_out(truth * (1 + 0.9 * floor), truth, truth, dtype).ok
    assert not compare_out(truth * (1 + 1.1 * floor), truth, truth, dtype).ok


@pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf])
def test_specials_are_compared_as_masks(special):
    truth = truth_rows(10, 64)
    truth[3, 5] = special
    out = truth.float()
    assert compare_out(out, truth, out, F32).ok
    assert compare_lse(out, truth, out, F32).ok
    for wrong in (0.0, math.nan, math.inf, -math.inf):
        if wrong == special or wrong != wrong != special != special:
            continue
        out[3, 5] = wrong
        assert not compare_out(out, truth, truth, F32).ok
        assert not compare_lse(out, truth, truth, F32).ok


def test_row_error_of_a_row_that_is_zero():
    truth = torch.zeros(2, 4, dtype=torch.float64)
    assert row_error(torch.zeros(2, 4), truth) == 0.0
    assert row_error(torch.full((2, 4), 1e-30), truth) == math.inf


def test_row_error_of_nothing():
    assert row_error(torch.zeros(0, 4), torch.zeros(0, 4)) == 0.0
    assert row_error(torch.zeros(0, 4), torch.zeros(1, 4)) == math.inf


def test_compare_lse_is_absolute():
    truth = truth_rows(100) * 30
    assert compare_lse(truth + 0.9e-5, truth, truth, F32).ok
    assert not compare_lse(truth + 1.1e-5, truth, truth, F32).ok
    assert compare_lse(truth + 0.9e-3, truth, truth, torch.bfloat16).ok
    assert not compare_lse(truth[:99], truth, truth, F32).ok


def test_compare_lse_allows_twice_the_references_own_error():
    truth = truth_rows(100) * 30
    assert compare_lse(truth + 3.9e-5, truth, truth + 2e-5, F32).ok
    assert not compare_lse(truth + 4.1e-5, truth, truth + 2e-5, F32).ok


def test_a_reference_that_is_wrong_itself_excuses_nothing():
    truth = truth_rows(100)
    nowhere = torch.full_like(truth, torch.nan)
    assert not compare_lse(nowhere, truth, nowhere, F32).ok
    assert not compare_out(nowhere, truth, nowhere, F32).ok


def sink_mass(keys=4096, rows=8):
    """Almost everything on key 0, as trained models do."""
    mass = torch.full((2, keys), 1e-3 * rows / keys, dtype=torch.float64)
    mass[:, 0] = rows - mass[:, 1:].sum(-1)
    return mass, rows


def test_compare_mass_accepts_rounding():
    truth, rows = sink_mass()
    assert compare_mass(truth.float(), truth, rows).ok


def test_compare_mass_rejects_one_wrong_key_under_a_strong_sink():
    truth, rows = sink_mass()
    mass = truth.float()
    mass[1, 777] *= 1.01
    assert not compare_mass(mass, truth, rows).ok
    # which an error relative to the largest key would have missed
    assert float((mass - truth).abs().max() / truth.max()) < 1e-7


def test_compare_mass_rejects_a_lost_share():
    truth = torch.full((1, 1000), 8e-3, dtype=torch.float64)
    assert not compare_mass((truth * (1 - 1.5e-3)).float(), truth, 8).ok


def test_compare_mass_rejects_a_swapped_head():
    truth = truth_rows(1, 4, 50).exp()
    truth = truth / truth.sum(-1, keepdim=True) * 8
    assert not compare_mass(truth[:, [1, 0, 2, 3]].float(), truth, 8).ok


def test_compare_mass_of_nothing():
    assert compare_mass(torch.zeros(2, 0), torch.zeros(2, 0), 8).ok
    assert compare_mass(torch.zeros(2, 5), torch.zeros(2, 5), 0).ok
    assert not compare_mass(torch.ones(2, 5), torch.zeros(2, 5), 0).ok


def test_compare_exact_counts_what_differs():
    x = torch.tensor([1.0, math.nan, -0.0])
    assert compare_exact(x, x.clone()) == Comparison(0.0, 0.0, finite=False)
    assert compare_exact(torch.tensor([1, 2, 3]), torch.tensor([1, 0, 0])) == Comparison(2.0, 0.0)
    assert not compare_exact(torch.tensor([1]), torch.tensor([1.0])).ok
    assert not compare_exact(torch.tensor([1]), torch.tensor([[1]])).ok


def test_comparison_with_a_nan_does_not_pass():
    assert not Comparison(math.nan, 1.0).ok


def test_worst_is_the_largest_ratio():
    found = {"a": Comparison(1e-7, 1e-6), "b": Comparison(1e-4, 1e-3), "c": Comparison(0.0, 0.0)}
    assert worst(found) in (found["a"], found["b"])
    assert worst(found | {"d": Comparison(1.0, 0.0)}) == Comparison(1.0, 0.0)
    assert math.isnan(worst(found | {"d": Comparison(math.nan, 1.0)}).err)
