import numpy as np
import pytest

from pcbench.statistics import percentile, ratio_interval, wilson_interval


def test_percentile_is_linear_between_samples():
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5
    assert percentile([5.0], 90) == 5.0


def test_ratio_interval_is_null_under_five_pairs():
    assert ratio_interval([2.0, 4.0], [1.0, 2.0]) == (2.0, None, None)


def test_ratio_interval_refuses_unequal_lists():
    with pytest.raises(ValueError, match="got 2 and 1"):
        ratio_interval([1.0, 2.0], [1.0])


def test_ratio_interval_cancels_a_drift_that_both_sides_share():
    drift = np.linspace(1, 3, 25)
    ratio, low, high = ratio_interval((2 * drift).tolist(), drift.tolist())
    assert low == ratio == high == pytest.approx(2.0)


def test_ratio_interval_covers_the_true_ratio_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        a, b = rng.lognormal(0.4, 0.1, 15), rng.lognormal(0.0, 0.1, 15)
        _, low, high = ratio_interval(a.tolist(), b.tolist(), seed)
        hits += low <= np.exp(0.4) <= high
    assert hits >= 180


def test_ratio_interval_is_seeded():
    a, b = [3.0, 4.0, 5.0, 6.0, 7.0], [1.0, 1.5, 1.2, 2.0, 1.1]
    assert ratio_interval(a, b) == ratio_interval(a, b)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"), [(24, 40, 0.446, 0.737), (0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0)]
)
def test_wilson_interval_equals_published_values(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-4)
