"""Differences of scores, and what may be said of them."""

import math

import numpy as np
import pytest

from pcbench.differences import (
    Difference,
    average_difference,
    loss_difference,
    mcnemar,
    mean_of_means,
    paired_difference,
    paired_share_interval,
    pairs_that_tell,
)
from pcbench.statistics import mean_interval


def test_mcnemar_equals_the_binomial_tail():
    # 1 against 9 prompts: 2 * (1 + 10) / 1024
    a, b = [1] * 9 + [0] + [1] * 30, [0] * 9 + [1] + [1] * 30
    assert mcnemar(a, b) == mcnemar(b, a) == pytest.approx(22 / 1024)
    assert mcnemar([0, 1], [1, 0]) == mcnemar([1, 1], [1, 1]) == 1.0


@pytest.mark.parametrize(("a", "b"), [([1], [1, 0]), ([0.5], [1])])
def test_mcnemar_refuses_what_is_not_right_or_wrong(a, b):
    with pytest.raises(ValueError, match="mcnemar: two equally long lists of 0 and 1"):
        mcnemar(a, b)


def test_paired_difference_ignores_what_both_share():
    shared = np.random.default_rng(3).random(40)
    found = paired_difference((0.5 * shared + 0.1).tolist(), (0.5 * shared).tolist())
    assert found == (*[pytest.approx(0.1)] * 3, None, 40, False)
    assert found.words() == "higher"


def test_losses_that_differ_by_rounding_do_not_differ():
    losses = [6.3096, 6.31, 6.2, 6.25, 6.4, 6.5, 6.6]
    assert loss_difference([x + 2e-8 for x in losses], losses).words() == "no significant difference"
    found = loss_difference([x + 2e-4 for x in losses], losses)
    assert found == (*[pytest.approx(2e-4)] * 3, None, 7, False)
    assert found.words() == "higher"


def test_paired_difference_covers_none_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    said = []
    for _ in range(200):
        prompts = rng.random(60)
        a, b = (np.clip(prompts + rng.normal(0, 0.2, 60), 0, 1).tolist() for _ in "ab")
        said.append(paired_difference(a, b).words())
    assert said.count("no significant difference") >= 180


def test_paired_difference_has_mcnemars_p_only_for_right_or_wrong():
    a, b = [1] * 9 + [0] + [1] * 30, [0] * 9 + [1] + [1] * 30
    assert paired_difference(a, b).p == mcnemar(a, b)
    assert paired_difference([0.5, *a[1:]], b).p is None


@pytest.mark.parametrize(
    ("more", "less", "n", "confidence", "low", "high"),
    [
        # Bentur et al. 2009 in Fagerland, Lydersen and Laake 2014; a run of R's PropCIs
        (1, 7, 21, 0.95, -0.517, -0.026),
        (28, 25, 618, 0.9, -0.0148, 0.0247),
    ],
)
def test_paired_share_interval_equals_published_values(more, less, n, confidence, low, high):
    places = 5e-4 if n < 100 else 5e-5
    assert paired_share_interval(more, less, n, confidence) == pytest.approx((low, high), abs=places)
    assert paired_share_interval(less, more, n, confidence) == pytest.approx((-high, -low), abs=places)


@pytest.mark.parametrize("n", [1, 5, 10, 200])
def test_paired_share_interval_has_a_width_where_no_prompt_or_every_prompt_differs(n):
    z2 = 1.959964**2
    assert paired_share_interval(0, 0, n) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)), rel=1e-4)
    low, high = paired_share_interval(n, 0, n)
    assert (low < 1, high) == (True, 1.0)


def test_paired_share_interval_covers_the_true_difference_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        more, less, _ = rng.multinomial(25, [0.25, 0.1, 0.65])
        low, high = paired_share_interval(int(more), int(less), 25)
        hits += low <= 0.15 <= high
    assert 0.92 * 400 <= hits <= 0.98 * 400


def test_paired_difference_of_right_or_wrong_takes_its_interval_at_any_number_of_prompts():
    found = paired_difference([1, 1, 1, 1], [0, 0, 0, 0])
    assert (found.mean, found.p, found.n, found.high) == (1.0, 0.125, 4, 1.0)
    assert found[1:3] == paired_share_interval(4, 0, 4)
    with pytest.raises(ValueError, match="paired_difference: two equally long lists, got 1 and 2"):
        paired_difference([1], [1, 0])


def test_paired_difference_of_graded_scores_needs_five_prompts_for_an_interval():
    assert paired_difference([0.5] * 4, [0.25, 0.3, 0.1, 0.2])[1:] == (None, None, None, 4, False)
    differences = [0.25, 0.2, 0.4, 0.3, 0.1]
    found = paired_difference([0.5] * 5, [0.5 - x for x in differences])
    assert found[:3] == pytest.approx(mean_interval(differences))
    assert (found.p, found.n, found.words()) == (None, 5, "cannot tell, needs n ≥ 6")


def test_paired_difference_of_graded_scores_that_are_all_alike_is_not_certain():
    assert paired_difference([0.5] * 8, [0.5] * 8) == (0.0, *paired_share_interval(0, 0, 8), None, 8, False)


def test_average_difference_weighs_datasets_alike_and_adds_their_intervals():
    pairs = {"small": ([1.0] * 6, [0.0] * 6), "large": ([0.0] * 50, [0.0] * 50)}
    each = [paired_difference(*both) for both in pairs.values()]
    found = average_difference(pairs)
    assert (found.mean, found.n, found.p) == (0.5, 6, mcnemar([1] * 6, [0] * 6))
    assert found.low == pytest.approx(0.5 - math.hypot(1 - each[0].low, 0 - each[1].low) / 2)
    assert found.high == pytest.approx(0.5 + each[1].high / 2)


def test_average_difference_has_no_interval_where_a_dataset_has_none():
    pairs = {"one": ([0.5], [0.0]), "other": ([0.0] * 9, [0.0] * 9)}
    assert average_difference(pairs) == (0.25, None, None, None, 1, True)
    assert average_difference(pairs).words() == "cannot tell, needs n ≥ 6 each"


def test_average_difference_of_one_dataset_is_its_own():
    both = [1, 0, 1, 1, 0, 1, 1], [0, 0, 1, 0, 0, 1, 0]
    assert average_difference({"one": both}) == pytest.approx(paired_difference(*both))


def test_mean_of_means_adds_distances_in_squares():
    assert mean_of_means([(1.0, -2.0, 5.0), (3.0, -1.0, 6.0)]) == (2.0, 2 - 5 / 2, 2 + 5 / 2)
    assert mean_of_means([(1.0, 0.0, 2.0), (3.0, None, None)]) == (2.0, None, None)


def test_pairs_that_tell_are_the_fewest_with_a_significant_outcome():
    for confidence in (0.95, 0.975, 0.995, 0.999):
        n = pairs_that_tell(confidence)
        assert mcnemar([1] * n, [0] * n) <= 1 - confidence < mcnemar([1] * (n - 1), [0] * (n - 1))
    assert pairs_that_tell() == 6


@pytest.mark.parametrize("n", range(1, 6))
def test_no_outcome_of_fewer_pairs_is_ever_called_one_or_none(n):
    for right in range(n + 1):
        found = paired_difference([1] * n, [1] * right + [0] * (n - right))
        assert found.words() == "cannot tell, needs n ≥ 6"


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (Difference(0.1, -0.1, 0.3, None, 40), "no significant difference"),
        (Difference(0.0, 0.0, 0.0, 1.0, 40), "no significant difference"),
        (Difference(0.1, 0.05, 0.3, None, 40), "higher"),
        (Difference(-0.1, -0.3, -0.05, 0.01, 40), "lower"),
        # four of four that differ: the interval is approximate, the exact test knows better
        (Difference(0.1, 0.01, 0.3, 0.125, 30), "no significant difference"),
        (Difference(1.0, 1.0, 1.0, 0.0625, 5), "cannot tell, needs n ≥ 6"),
        (Difference(1.0, 1.0, 1.0, 0.03125, 6), "higher"),
        (Difference(1.0, None, None, None, 4), "cannot tell, needs n ≥ 6"),
        (Difference(1.0, 0.5, 1.0, None, None), "cannot tell, needs n ≥ 6"),
        # of records that somebody made without intervals
        (Difference(1.0, None, None, None, 40), "cannot tell"),
    ],
)
def test_words_claim_a_difference_only_where_interval_and_p_agree(difference, words):
    assert difference.words() == words


def test_words_at_a_higher_confidence_need_more_pairs():
    found = paired_difference([1] * 8, [0] * 8, 0.995)
    assert found.words(0.995) == "cannot tell, needs n ≥ 9"
    assert paired_difference([1] * 9, [0] * 9, 0.995).words(0.995) == "higher"
