"""Speed-ups of runs against each other, from raw samples."""

from dataclasses import replace

import pytest
from report.made_comparisons import QUIET, pair, quiet_pair, times, write
from report.made_kernels import SHAPES, kernel
from report.made_runs import record, stock

from pcbench.report.compare.runs import read_compared
from pcbench.report.compare.times import absolute_times, judge, time_changes


@pytest.fixture
def changes(tmp_path):
    """The ratios of some runs' records against the first."""

    def make(*runs, margin=0.05):
        folders = [write(tmp_path / f"run{i}", records) for i, records in enumerate(runs)]
        return time_changes(read_compared(folders), margin)

    return make


def test_a_run_of_other_times_and_the_same_ratios_is_the_same(changes):
    ours, full = quiet_pair()
    halved = [replace(r, **times([x * 0.8 for x in r.samples_ms])) for r in (full, ours)]
    (change,) = changes([full, ours], halved)
    assert change.time_ratio == pytest.approx(1.0)
    assert change.in_run_baseline_ratio == pytest.approx(0.8)
    assert (change.before, change.after) == pytest.approx((1.5, 1.5), rel=0.01)
    assert change.verdict == "same"


def test_a_slower_method_is_a_regression_and_a_faster_one_is_not(changes):
    (slow,) = changes(quiet_pair(), quiet_pair(1.10))
    assert slow.time_ratio == pytest.approx(1.10, rel=0.01)
    assert 1 < slow.ci_low < slow.time_ratio < slow.ci_high
    assert (slow.verdict, slow.ratio, slow.against) == ("regression", "speedup_vs_full", "full/torch")
    assert slow.repeats == (10, 10)


def test_a_change_within_the_margin_is_slower_and_no_regression(changes):
    assert changes(quiet_pair(), quiet_pair(1.04))[0].verdict == "slower"


def test_a_faster_method_is_faster(changes):
    assert changes(quiet_pair(), quiet_pair(0.8))[0].verdict == "faster"


def test_the_margin_decides_what_is_a_regression(changes):
    assert changes(quiet_pair(), quiet_pair(1.10), margin=0.2)[0].verdict == "slower"


def test_three_repeats_cannot_tell_and_say_how_many_can(changes):
    (change,) = changes(quiet_pair(repeats=3), quiet_pair(1.5, repeats=3))
    assert change.ci_low is None
    assert (change.verdict, change.why) == ("cannot tell", "3 repeats, an interval needs 4")


def test_a_noisy_run_cannot_tell(changes):
    noisy = pair([100 * x for x in (0.8, 1.2, 0.9, 1.3, 0.7, 1.1)], [150.0] * 6)
    (change,) = changes(noisy, noisy)
    assert change.verdict == "cannot tell"
    assert change.why == "the interval holds 1 and 1.05; the runs are too noisy"


def test_intervals_hold_for_all_ratios_together(changes):
    lengths = (1024, 2048, 4096, 8192)
    (alone,) = changes(quiet_pair(), quiet_pair(1.04))
    together = changes(
        [r for n in lengths for r in quiet_pair(context_tokens=n)],
        [r for n in lengths for r in quiet_pair(1.04, context_tokens=n)],
    )
    assert len(together) == 4
    assert all(change.ci_low < alone.ci_low and change.ci_high > alone.ci_high for change in together)


def test_a_ratio_whose_repeats_are_too_few_for_all_together_is_judged_alone_and_says_so(changes):
    factors = {1024: 3.0, 2048: 1.07, 4096: 0.5, 8192: 1.0}
    found = changes(
        [r for n in factors for r in quiet_pair(repeats=4, context_tokens=n)],
        [r for n, factor in factors.items() for r in quiet_pair(factor, repeats=4, context_tokens=n)],
    )
    alone = "interval of this ratio alone, all together need 5 repeats"
    # 1.07: above 1 as a whole, not above 1.05
    assert [(change.verdict, change.why) for change in found] == [
        ("regression", alone),
        ("cannot tell", "worse by 5 % for this ratio alone; about 5 repeats would tell"),
        ("faster", alone),
        ("same", alone),
    ]
    assert found[1].ci_low > 1
    assert [change.undecided for change in found] == [False, True, False, False]


def test_a_ratio_worse_by_its_own_interval_and_not_by_the_joint_one_is_undecided(changes):
    noisy = [0.9, 0.93, 0.95, 0.97, 0.99, 1.01, 1.03, 1.05, 1.07, 1.10]
    factors = dict.fromkeys(range(1, 10), 1.0) | {10: 1.09}
    before, after = (
        [r for n, f in runs.items() for r in pair([100 * f * x for x in noisy], [150.0] * 10, context_tokens=n)]
        for runs in (dict.fromkeys(factors, 1.0), factors)
    )
    (own,) = changes(before[-2:], after[-2:])
    assert own.ci_low > 1
    assert own.verdict == "regression"
    found = {change.name.split()[-2]: change for change in changes(before, after)}
    assert {name for name, change in found.items() if change.undecided} == {"10"}
    assert found["10"].ci_low < 1
    assert found["10"].why == "the interval holds 1 and 1.05; about 14 repeats would tell"


def test_a_ratio_beyond_the_margin_without_any_interval_is_undecided(changes):
    (slow,) = changes(quiet_pair(repeats=3), quiet_pair(1.5, repeats=3))
    (same,) = changes(quiet_pair(repeats=3), quiet_pair(repeats=3))
    assert [(c.verdict, c.undecided) for c in (slow, same)] == [("cannot tell", True), ("cannot tell", False)]


def test_the_worst_comes_first(changes):
    lengths = {1024: 0.8, 2048: 1.2, 4096: 1.0, 8192: 1.5}
    found = changes(
        [r for n in lengths for r in quiet_pair(context_tokens=n)],
        [r for n, factor in lengths.items() for r in quiet_pair(factor, context_tokens=n)],
    )
    assert [(c.verdict, c.name.split()[-2]) for c in found] == [
        ("regression", "8,192"),
        ("regression", "2,048"),
        ("faster", "1,024"),
        ("same", "4,096"),
    ]


def test_a_baseline_that_moved_itself_cannot_tell(changes):
    full, ours = quiet_pair()
    busy = [replace(full, **times([x * 2 for x in full.samples_ms])), replace(ours, **times([x * 3 for x in QUIET]))]
    (change,) = changes([full, ours], busy)
    assert change.verdict == "cannot tell"
    assert change.why == "full/torch itself takes 2.00 times as long: measure both again"


def test_every_other_run_is_held_against_the_first(changes):
    found = changes(quiet_pair(), quiet_pair(1.5), quiet_pair())
    assert [(c.run, c.verdict) for c in found] == [("run1", "regression"), ("run2", "same")]


def test_the_reference_is_its_own_ratio(changes):
    def run(factor):
        full, ours = quiet_pair(factor)
        slow = record(backend="reference", **times([400 * x for x in QUIET]))
        return [full, replace(ours, speedup_vs_reference=4.0), slow]

    found = changes(run(1.0), run(1.3))
    assert {(c.ratio, c.against, c.verdict) for c in found} == {
        ("speedup_vs_full", "full/torch", "regression"),
        ("speedup_vs_reference", "parallel_comp/reference", "regression"),
    }


def test_kernels_are_held_against_the_baseline_that_their_record_names(changes):
    def run(factor):
        ours = kernel("calibrated_attention", "cpu", SHAPES[0], factor, baseline="sdpa-flash/torch",
                      speedup_vs_baseline=1.25 / factor)  # fmt: skip
        others = (("sdpa-flash", 1.25), ("sdpa-math", 8.0), ("floor-gemm", 0.5))
        return [ours, *(kernel(name, "torch", SHAPES[0], p50) for name, p50 in others)]

    (change,) = changes(run(1.0), run(1.5))
    assert (change.ratio, change.against) == ("speedup_vs_baseline", "sdpa-flash/torch")
    assert change.time_ratio == pytest.approx(1.5)
    assert change.verdict == "regression"


def test_a_baseline_that_was_fastest_only_before_stays_the_baseline(changes):
    def run(flash, math):
        ours = kernel("calibrated_attention", "cpu", SHAPES[0], 1.0, speedup_vs_baseline=min(flash, math),
                      baseline="sdpa-flash/torch" if flash < math else "sdpa-math/torch")  # fmt: skip
        return [ours, kernel("sdpa-flash", "torch", SHAPES[0], flash), kernel("sdpa-math", "torch", SHAPES[0], math)]

    (change,) = changes(run(1.2, 1.3), run(1.3, 1.1))
    assert change.against == "sdpa-flash/torch"
    assert change.after == pytest.approx(1.3)


def test_a_ratio_that_one_run_lacks_cannot_tell(changes):
    full, ours = quiet_pair()
    gone = stock(status="out_of_memory", reason="12 GiB")
    (change,) = changes([full, ours], [gone, replace(ours, speedup_vs_full=None, baseline=None)])
    assert (change.verdict, change.time_ratio) == ("cannot tell", None)
    assert change.why == "no speedup_vs_full against full/torch in run1"
    assert change.undecided


def test_a_ratio_whose_baseline_was_cut_off_cannot_tell(changes):
    full, ours = quiet_pair()
    (change,) = changes([ours], [full, ours])
    assert (change.verdict, change.why) == ("cannot tell", "no samples of its in-run baseline in run0")


def test_no_ratio_is_made_where_parity_failed_or_nothing_was_timed(changes):
    full, ours = quiet_pair()
    failed = record(status="parity_failed", reason="calibrated_attention disagrees")
    untimed = record(workload="prose", samples_ms=None, ms_p50=None, repeats=None)
    assert changes([full, ours, untimed], [full, failed, untimed]) == []


def test_absolute_times_are_listed_and_null_where_a_run_has_none(tmp_path):
    full, ours = quiet_pair()
    folders = [write(tmp_path / "a", [full, ours]), write(tmp_path / "b", [full])]
    assert absolute_times(read_compared(folders)) == {
        "Full attention on passkey, 8,192 tokens": [full.ms_p50, full.ms_p50],
        "ParallelComp on passkey, 8,192 tokens": [ours.ms_p50, None],
    }


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((1.10, 1.06, 1.14), "regression"),
        ((1.06, 1.001, 1.12), "regression"),
        ((1.04, 1.01, 1.30), "slower"),
        ((0.90, 0.85, 0.99), "faster"),
        ((1.00, 0.90, 1.05), "same"),
        ((1.20, 0.99, 1.41), "cannot tell"),
        ((1.00, 0.90, 1.06), "cannot tell"),
        ((1.50, None, None), "cannot tell"),
    ],
)
def test_judge_says_what_the_interval_allows(interval, verdict):
    assert judge(*interval, 0.05, 10)[0] == verdict


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((3.00, 2.80, 3.20), "regression"),
        ((1.20, 1.051, 1.41), "regression"),
        ((1.20, 1.05, 1.41), "cannot tell"),
        ((1.04, 1.01, 1.30), "slower"),
        ((0.90, 0.85, 0.99), "faster"),
        ((1.00, 0.90, 1.05), "same"),
    ],
)
def test_judge_asks_more_of_an_interval_alone(interval, verdict):
    said, why = judge(*interval, 0.05, 4, 0.99, reached=0.97)
    assert said == verdict
    if verdict != "cannot tell":
        assert why == "interval of this ratio alone, all together need 5 repeats"


def test_judge_says_how_many_repeats_an_interval_alone_lacks():
    # half of 1.01…1.21 is log 1.0945, at 99 % in place of 95 % 2.576 / 1.960 times as wide: 1.0945**1.314 = 1.126
    assert judge(1.10, 1.01, 1.21, 0.05, 10, 0.99, reached=0.95) == (
        "cannot tell",
        "worse by 5 % for this ratio alone; about 16 repeats would tell",
    )


def test_judge_says_how_many_repeats_would_tell_or_that_none_would():
    # an interval twice as wide as the margin needs four times the repeats
    assert judge(1.0, 1.21**-1, 1.21, 0.1, 10) == (
        "cannot tell",
        "the interval holds 1 and 1.1; about 40 repeats would tell",
    )
    assert judge(1.0, 0.2, 5.0, 0.1, 10)[1] == "the interval holds 1 and 1.1; the runs are too noisy"
