import math

import numpy as np
import pytest

from pcbench.statistics import (
    mean_interval,
    median_interval,
    outliers,
    percentile,
    ratio_change,
    ratio_interval,
    reached_confidence,
    repeats_that_tell,
    score_interval,
    settled,
    wilson_interval,
)


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


# two-sided 5 % critical values of U: Mann and Whitney's test is significant at and below
@pytest.mark.parametrize(("n", "m", "critical"), [(4, 4, 0), (5, 5, 2), (8, 6, 8), (10, 10, 23), (20, 20, 127)])
def test_ratio_change_leaves_out_as_many_differences_as_the_published_tables(n, m, critical):
    rng = np.random.default_rng(n)
    before, after = rng.lognormal(0, 1, n), rng.lognormal(0.3, 1, m)
    differences = np.sort((np.log(after)[:, None] - np.log(before)).ravel())
    factor, low, high = ratio_change(before.tolist(), after.tolist())
    assert low == pytest.approx(np.exp(differences[critical]))
    assert high == pytest.approx(np.exp(differences[-1 - critical]))
    assert factor == pytest.approx(np.exp(np.median(differences)))


def test_ratio_change_has_no_interval_where_repeats_can_exclude_nothing():
    assert ratio_change([1.0] * 3, [2.0] * 3) == (2.0, None, None)
    assert ratio_change([1.0] * 5, [2.0] * 5, 0.999)[1:] == (None, None)
    for confidence in (0.95, 0.99, 0.999):
        enough = repeats_that_tell(confidence)
        assert ratio_change([1.0] * enough, [2.0] * enough, confidence)[1] == pytest.approx(2.0)
        assert ratio_change([1.0] * (enough - 1), [2.0] * (enough - 1), confidence)[1] is None
    assert [repeats_that_tell(c) for c in (0.95, 0.99, 0.999)] == [4, 5, 7]


@pytest.mark.parametrize(("n", "m"), [(3, 3), (5, 5), (4, 9), (7, 2), (12, 12)])
def test_reached_confidence_is_the_most_that_gives_an_interval(n, m):
    before, after = [1.0] * n, [2.0] * m
    reached = reached_confidence(n, m)
    # all orders of n + m values are equally likely, two of them keep the runs apart
    assert reached == pytest.approx(1 - 2 / math.comb(n + m, m))
    assert ratio_change(before, after, reached)[1] == pytest.approx(2.0)
    assert ratio_change(before, after, math.nextafter(reached, 1))[1] is None


@pytest.mark.parametrize("repeats", [4, 7, 20])
def test_ratio_change_covers_the_true_factor_at_least_as_often_as_it_says(repeats):
    rng = np.random.default_rng(repeats)
    hits = 0
    for _ in range(400):
        before, after = rng.standard_t(2, (2, repeats)) * 0.1
        _, low, high = ratio_change(np.exp(before).tolist(), np.exp(after + 0.1).tolist())
        hits += low <= np.exp(0.1) <= high
    assert hits >= 0.93 * 400


def test_ratio_change_is_hardly_moved_by_a_burst():
    quiet = [1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 0.99, 1.02, 0.98]
    factor, low, high = ratio_change(quiet, [*quiet[:-2], 30.0, 40.0])
    assert 1.0 <= factor < 1.02
    assert low < 1 < high


def test_ratio_change_refuses_an_empty_side():
    with pytest.raises(ValueError, match="at least one ratio on each side, got 0 and 2"):
        ratio_change([], [1.0, 2.0])


def test_score_interval_is_wilson_for_right_or_wrong_and_else_the_bootstrap():
    assert score_interval([1, 0, 1]) == (2 / 3, *wilson_interval(2, 3))
    values = [0.1, 0.4, 0.3, 0.9, 0.2]
    assert score_interval(values) == mean_interval(values)
    assert score_interval(values[:4]) == (pytest.approx(0.425), None, None)


def test_mean_interval_is_seeded():
    values = np.random.default_rng(2).normal(size=30).tolist()
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values) != mean_interval(values, seed=1)


def test_mean_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        _, low, high = mean_interval(rng.normal(3, 1, 40).tolist(), seed=seed)
        hits += low <= 3 <= high
    assert hits >= 180


def test_mean_interval_agrees_with_the_normal_one_for_many_values():
    values = np.random.default_rng(1).normal(size=400)
    for confidence, z in ((0.95, 1.96), (0.995, 2.81)):
        mean, low, high = mean_interval(values.tolist(), confidence)
        half = z * values.std() / 20
        assert (mean - low, high - mean) == pytest.approx((half, half), rel=0.07)


def test_median_interval_covers_the_true_median_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(200):
        low, high = median_interval(rng.lognormal(0.0, 0.2, 15).tolist(), seed)
        hits += low <= 1.0 <= high
    assert hits >= 180


def test_median_interval_is_null_under_five_values_and_seeded():
    assert median_interval([1.0, 2.0, 3.0, 4.0]) is None
    values = [3.0, 1.0, 4.0, 1.5, 9.0]
    low, high = median_interval(values)
    assert 1.0 <= low <= percentile(values, 50) <= high <= 9.0
    assert median_interval(values) == (low, high)


def test_outliers_are_beyond_the_fences():
    # quartiles 2 and 4: fences at -1 and 7
    assert outliers([1.0, 2.0, 3.0, 4.0, 7.0]) == 0
    assert outliers([1.0, 2.0, 3.0, 4.0, 7.1]) == 1
    assert outliers([-50.0, 2.0, 3.0, 3.0, 4.0, 70.0]) == 2
    assert outliers([5.0]) == 0


def test_settled_needs_five_samples_and_a_narrow_interval():
    narrow, wide = [10.0, 10.1, 9.9, 10.0, 10.05, 9.95], [10.0, 20.0, 5.0, 12.0, 8.0, 30.0]
    assert not settled([narrow[:4]], 0.5)
    assert settled([narrow], 0.02)
    assert not settled([wide], 0.02)


def test_settled_looks_at_ratios_to_the_first():
    drift = [10.0, 12.0, 15.0, 19.0, 24.0, 30.0]
    assert not settled([drift], 0.02)
    assert settled([drift, [x / 2 for x in drift]], 0.02)
    assert not settled([drift, [x / 2 for x in drift], [3.0] * 6], 0.02)
