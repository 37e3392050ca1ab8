"""False alarms and detection on recorded pairs of runs of one build."""

import json
from pathlib import Path

import numpy as np
import pytest
from report.made_comparisons import times
from report.made_kernels import kernel

from pcbench.report.compare.runs import ComparedRun
from pcbench.report.compare.times import time_changes

RECORDED = json.loads((Path(__file__).parents[2] / "golden" / "compare_pairs.json").read_text(encoding="utf-8"))
PAIRS = [tuple(np.array(side) for side in pair) for pair in RECORDED["pairs"]]
DRAWS = 1000


def run(name, *sides):
    """A run of ops with an in-run baseline each; a side [2, repeats], ms of the op and of the baseline."""
    records = []
    for i, (ours, stock) in enumerate(side.tolist() for side in sides):
        shape = f"B{i + 1} H8 Hkv2 Q512 S512 D64 causal"
        records += [
            kernel("calibrated_attention", "cpu", shape, 1.0, **times(ours), baseline="sdpa-flash/torch",
                   speedup_vs_baseline=float(np.median(stock) / np.median(ours))),
            kernel("sdpa-flash", "torch", shape, 1.0, **times(stock)),
        ]  # fmt: skip
    return ComparedRun(name, {}, {record.cell: record for record in records}, {})


def slowed(side, factor):
    """A side whose op took `factor` times as long."""
    return side * np.array([[factor], [1.0]])


def verdict(before, after, factor):
    """Of a pair whose second run took `factor` times as long in the op."""
    (change,) = time_changes([run("before", before), run("after", slowed(after, factor))], margin=0.05)
    return change.verdict


def rate(of, factor, repeats):
    """Share of verdicts `of` over pairs drawn at random, in random order, with their rounds drawn again.

    Who goes first changes from round to round: rounds of either order are drawn among themselves. The noise of rounds
    counts twice, once as recorded and once as drawn.
    """
    rng = np.random.default_rng(0)
    return sum(verdict(*drawn(rng, repeats), factor) == of for _ in range(DRAWS)) / DRAWS


def drawn(rng, repeats):
    """Both sides of a pair."""
    pair = PAIRS[rng.integers(len(PAIRS))]
    rounds = [2 * rng.integers(0, 10, repeats) + np.arange(repeats) % 2 for _ in pair]
    return [pair[side][:, rounds[side]] for side in rng.permutation(2)]


def shares_of_comparisons(repeats, factor=1.0, margin=0.05):
    """With a regression, and with none but an undecided ratio, of comparisons of ten ratios.

    The op of the first took `factor` times as long.
    """
    rng = np.random.default_rng(0)
    failed = undecided = 0
    for _ in range(DRAWS // 5):
        (before, after), *others = [drawn(rng, repeats) for _ in range(10)]
        pairs = [(before, slowed(after, factor)), *others]
        sides = [run(str(i), *side) for i, side in enumerate(zip(*pairs, strict=True))]
        changes = time_changes(sides, margin)
        regression = any(change.verdict == "regression" for change in changes)
        failed += regression
        undecided += not regression and any(change.undecided for change in changes)
    return failed / (DRAWS // 5), undecided / (DRAWS // 5)


def test_the_record_holds_thirty_pairs():
    assert len(PAIRS) >= 30
    assert {side.shape for pair in PAIRS for side in pair} == {(2, 20)}
    assert all(RECORDED[key] for key in ("what", "how", "machine", "commit"))


def test_the_recorded_pairs_raise_few_alarms_and_show_a_tenth():
    both = [(a, b) for pair in PAIRS for a, b in (pair, pair[::-1])]
    assert sum(verdict(a, b, 1.0) == "regression" for a, b in both) <= 0.05 * len(both)
    assert sum(verdict(a, b, 1.10) == "regression" for a, b in both) >= 0.95 * len(both)


@pytest.mark.parametrize("repeats", [5, 10, 20, 30])
def test_pairs_drawn_again_raise_few_alarms(repeats):
    assert rate("regression", 1.0, repeats) <= 0.05


def test_pairs_drawn_again_show_a_tenth():
    assert rate("regression", 1.10, 30) >= 0.95


def test_three_repeats_never_tell():
    assert rate("cannot tell", 1.10, 3) == 1.0


@pytest.mark.parametrize("repeats", [4, 5])
def test_ten_ratios_of_few_repeats_raise_few_alarms_and_show_three_times(repeats):
    assert shares_of_comparisons(repeats)[0] <= 0.05
    assert shares_of_comparisons(repeats, 3.0)[0] >= 0.95


def test_ten_ratios_of_one_build_lie_elsewhere_as_whole_runs_more_often_than_their_intervals_say():
    """A shift of a whole run is in no interval, so more repeats raise no fewer alarms; a wider margin does."""
    failed, undecided = shares_of_comparisons(30)
    assert 0.05 < failed < 0.20
    assert undecided < 0.10
    assert shares_of_comparisons(30, margin=0.10) == (0.0, 0.0)


def test_ten_ratios_of_five_repeats_pass_few_slowdowns_of_a_fifth():
    """What cannot be told is not passed either."""
    failed, undecided = shares_of_comparisons(5, 1.20)
    assert failed < 0.6
    assert failed + undecided >= 0.90
