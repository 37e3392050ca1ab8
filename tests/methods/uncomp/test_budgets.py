"""Head groups and their budgets: the released code's lists, the paper's, exact ones."""

from itertools import pairwise

import pytest

from pcbench.errors import ConfigError
from pcbench.methods.eviction.budgets import Uniform
from pcbench.methods.uncomp.budgets import (
    Evenly,
    Exact,
    Extreme,
    Given,
    Grouped,
    Paper,
    Released,
    ReleasedSplit,
    spread,
)
from pcbench.methods.uncomp.groups import as_text, group_sizes, head_groups, of_texts
from tests.tiny import make_runner


def of_heads(heads, groups):
    """The groups of heads of ascending entropy."""
    return head_groups(range(heads), groups)


def sizes(rule, groups, tokens, length, heads=32):
    """Tokens of each group."""
    labels = of_heads(heads, groups)
    found = rule(labels, groups, tokens, length)
    return list(dict(zip(labels, found, strict=True)).values())


@pytest.mark.parametrize(
    ("heads", "groups", "expected"),
    [
        (32, 2, [16, 16]),
        (32, 3, [11, 10, 11]),
        (32, 4, [8] * 4),
        (32, 5, [7, 6, 6, 6, 7]),
        (32, 8, [4] * 8),
        (40, 8, [5] * 8),
        (32, 32, [1] * 32),
        (3, 2, [1, 2]),
        (1, 2, [0, 1]),
        (3, 8, [1, 0, 0, 0, 0, 0, 1, 1]),
    ],
)
def test_sizes_of_groups(heads, groups, expected):
    assert group_sizes(heads, groups) == expected


def test_higher_entropy_is_in_a_higher_group():
    assert head_groups([0.3, 0.1, 0.2], 2) == [1, 0, 1]
    assert head_groups([0.3, 0.1, 0.2, 0.4], 2) == [1, 0, 0, 1]
    # of equals the earlier head is the lower
    assert head_groups([0.5, 0.5, 0.5, 0.5], 2) == [0, 0, 1, 1]
    assert head_groups([0.3, 0.1, 0.2], 2, removed=1) == [1, -1, 0]


def test_groups_are_a_letter_a_head():
    spec = make_runner().spec
    assert as_text([-1, 0, 9, 10, 31]) == "-09av"
    assert of_texts(["01", "1-"], spec, 2) == [[0, 1], [1, -1]]
    for wrong in (["01"], ["01", "012"], ["01", "02"], ["01", "--"]):
        with pytest.raises(
            ConfigError, match=r"^head_groups: 2 texts of 2 letters of 01-, one of each no -, for llama,"
        ):
            of_texts(wrong, spec, 2)


@pytest.mark.parametrize(
    ("tokens", "length", "expected"),
    [
        (512, 4000, [384, 768]),
        (341, 4000, [255, 511]),
        (128, 4000, [96, 192]),
        (512, 600, [300, 600]),
        (512, 150, [75, 150]),
        (86, 4000, [16, 112]),
    ],
)
def test_released_budgets_of_two_groups(tokens, length, expected):
    assert sizes(Released(), 2, tokens, length) == expected


@pytest.mark.parametrize(
    ("groups", "tokens", "expected", "mean"),
    [
        (3, 512, [32, 384, 736], 384),
        (4, 512, [128, 298, 470, 640], 384),
        (5, 512, [256, 320, 384, 448, 512], 384),
        (8, 512, [20, 128, 256, 384, 384, 512, 640, 748], 384),
        (3, 86, [16, 64, 112], 64),
        (4, 86, [16, 48, 80, 112], 64),
        (5, 86, [16, 40, 64, 88, 112], 64),
        (8, 86, [16, 30, 44, 64, 64, 84, 98, 112], 64),
        (32, 512, list(range(144, 656, 16)), 392),
        (32, 86, list(range(144, 656, 16)), 392),
    ],
)
def test_released_budgets_of_more_groups(groups, tokens, expected, mean):
    assert sizes(Released(), groups, tokens, 4000) == expected
    found = Released()(of_heads(32, groups), groups, tokens, 4000)
    assert sum(found) / 32 == pytest.approx(mean, abs=0.01)


@pytest.mark.parametrize(
    ("groups", "tokens", "expected"),
    [
        (2, 729, [182, 911]),
        (3, 729, [364, 546, 729]),
        (4, 729, [180, 420, 673, 913]),
        (8, 729, [182, 286, 390, 494, 599, 703, 807, 911]),
        # the last layer at 512: of 70 tokens a third of the window at most, 9 where that has less than 8
        (2, 47, [11, 59]),
        (4, 47, [9, 21, 49, 61]),
        (8, 47, [9, 9, 9, 9, 61, 61, 61, 61]),
        (4, 20, [9, 18, 12, 21]),
        (8, 8, [9, 9, 9, 9, 3, 3, 3, 3]),
    ],
)
def test_the_released_pyramid_is_split_by_groups(groups, tokens, expected):
    assert sizes(ReleasedSplit(), groups, tokens, 4000) == expected


def test_32_groups_split_the_released_pyramid_in_a_line():
    found = sizes(ReleasedSplit(), 32, 372, 4000)
    # 558 tokens: steps of 12 from 93 to 465
    assert found == list(range(93, 466, 12))
    with pytest.raises(ConfigError, match=r"^uncomp: 2, 3, 4, 8 or 32 groups in the pyramid .*, got 5; choose one"):
        ReleasedSplit()(of_heads(32, 5), 5, 512, 4000)


@pytest.mark.parametrize(
    ("groups", "tokens", "length", "expected"),
    [
        # steps of a third of the upper half, rounded down
        (4, 300, 4000, [150, 200, 250, 300]),
        (4, 128, 4000, [65, 86, 107, 128]),
        (4, 128, 60, [30, 40, 50, 60]),
        (8, 300, 4000, [20, 128, 256, 384, 384, 512, 640, 748]),
    ],
)
def test_released_budgets_of_4_and_8_groups_at_other_sizes(groups, tokens, length, expected):
    assert sizes(Released(), groups, tokens, length) == expected


@pytest.mark.parametrize("groups", [1, 3, 5, 7])
def test_the_released_code_has_no_other_sizes(groups):
    with pytest.raises(ConfigError, match=f"got {groups} groups of 300 tokens; name their sizes by group_tokens"):
        Released()(of_heads(32, groups), groups, 300, 4000)


@pytest.mark.parametrize("heads", [1, 2, 3, 8])
@pytest.mark.parametrize(
    ("rule", "groups"),
    [
        (Exact(), 2), (Exact(), 8), (Paper(), 2), (Paper(), 8), (Released(), 2), (Released(), 8), (ReleasedSplit(), 4),
        (Given([20, 90, 91]), 3), (Extreme(12, 8), 2),
    ],
)  # fmt: skip
def test_even_budgets_are_as_many_tokens_as_those_of_groups(rule, groups, heads):
    labels = of_heads(heads, groups)
    for length in (4000, 600, 150):
        even = Evenly(rule, groups)([0] * heads, 1, 512, length)
        assert sum(even) == sum(rule(labels, groups, 512, length))
        assert max(even) - min(even) <= 1
        # a removed head has nothing
        assert Evenly(rule, groups)([0] * heads + [-1], 1, 512, length) == [*even, 0]


def test_budgets_of_the_paper():
    assert sizes(Paper(), 2, 384, 4000) == [256, 512]
    assert sizes(Paper(), 2, 64, 4000) == [43, 86]
    assert sizes(Paper(), 8, 384, 4000) == [640 - 74 * g for g in reversed(range(8))]
    assert sizes(Paper(), 2, 384, 384) == [384, 384]
    assert sizes(Paper(), 1, 384, 4000) == [384]


@pytest.mark.parametrize("heads", [1, 2, 3, 8, 32])
@pytest.mark.parametrize("groups", [1, 2, 3, 4, 5, 8, 32])
def test_the_mean_is_exact(heads, groups):
    for tokens, length in ((1, 50), (48, 150), (341, 400), (384, 4000), (399, 400)):
        labels = of_heads(heads, groups)
        found = Exact()(labels, groups, tokens, length)
        assert sum(found) == tokens * heads
        assert max(found) <= length
        # higher groups keep more, and heads of a group differ by one at most
        by_group = [[n for n, g in zip(found, labels, strict=True) if g == label] for label in set(labels)]
        assert all(max(group) - min(group) <= 1 for group in by_group)
        means = [sum(group) / len(group) for group in by_group]
        assert means == sorted(means)


def test_exact_budgets_are_one_to_two_and_one_to_five():
    assert sizes(Exact(), 2, 384, 4000) == [256, 512]
    eight = sizes(Exact(), 8, 384, 4000)
    assert eight[0] == 128
    assert eight[-1] == 640
    assert max(b - a for a, b in pairwise(eight)) <= 74
    # a budget that holds the prompt keeps everything in every head
    assert sizes(Exact(), 2, 72, 70) == [72, 72]


def test_spread_is_proportional_up_to_the_most():
    assert spread([1, 2, 3], 60, 100) == [10, 20, 30]
    assert spread([1, 2, 3], 60, 25) == [12, 23, 25]
    assert spread([1, 0, 1], 5, 100) == [3, 0, 2]
    assert spread([1, 1], 20, 10) == [10, 10]


def test_named_sizes_and_extreme_compression():
    assert Given([5, 7, 9])([2, 0, -1, 1], 3, 100, 4000) == [9, 5, 0, 7]
    of_512 = {n: Extreme(n, 8)([0, 1], 2, 512, 4000)[0] for n in (128, 64, 32, 16, 12, 10)}
    assert of_512 == {n: n for n in of_512}
    assert Extreme(12, 8)([0, 1], 2, 512, 4000) == [12, 512]
    assert Extreme(12, 8)([0, 1], 2, 128, 4000) == [8, 128]
    # of a shorter prompt its part
    assert Extreme(128, 8)([0, 1], 2, 512, 300) == [75, 512]


def test_grouped_asks_the_rule_layer_by_layer():
    spec = make_runner().spec
    budgets = Grouped([[0, 1], [1, 0]], 2, Exact(), Uniform())
    assert [budgets(i, spec, 48, 150) for i in range(2)] == [[32, 64], [64, 32]]
