"""Choices of accuracy against a gain."""

from dataclasses import replace

import pytest
from report.made_accuracy import ACCURACY, accuracy_records, vs_full
from report.made_runs import FULL, record, stock, suite_records, write_run

from pcbench.differences import Difference
from pcbench.report.reading.results import Results, Series
from pcbench.report.reading.runs import read_runs
from pcbench.report.verdict.tradeoffs import MEASURES, Choice, averaged, direct, front
from pcbench.report.wording import Estimate

SPEED, _, PEAK, KV = MEASURES


@pytest.fixture
def results(tmp_path):
    def make(*runs):
        return Results(read_runs([write_run(tmp_path / f"run{i}", records) for i, records in enumerate(runs)]))

    return make


def choice(points: float, gain: float) -> Choice:
    return Choice(Series(0, ""), Difference(points, None, None, None, 40), Estimate(gain, None, None))


def test_front_holds_what_nothing_beats_in_both():
    best, middle, beaten = choice(-0.1, 1.5), choice(-2.0, 3.0), choice(-2.5, 2.0)
    assert front([middle, beaten, best]) == [middle, best]


def test_front_leaves_out_what_full_attention_beats():
    assert front([choice(-1.0, 0.9), choice(0.0, 1.0), choice(-1.0, 1.0)]) == [choice(0.0, 1.0)]
    assert front([choice(-1.0, 1.0)]) == []


def test_front_keeps_choices_that_are_equal():
    assert len(front([choice(-1.0, 2.0), choice(-1.0, 2.0)])) == 2


def test_direct_takes_both_numbers_from_the_same_cell(results):
    fast = {**FULL, "speedup_vs_full": 2.0, "speedup_vs_full_ci_low": 1.9, "speedup_vs_full_ci_high": 2.1}
    (found,) = direct(results([stock(), record(**fast, **vs_full(-0.01, 0.02))]), SPEED)
    assert found.title == "passkey, 8,192 tokens"
    (only,) = found.choices
    assert only.gain == Estimate(2.0, 1.9, 2.1)
    assert only.change == (*map(pytest.approx, (-1.0, -3.0, 1.0)), None, 10, False)


def test_direct_leaves_out_the_twin_in_pytorch(results):
    labels = [c.series.label for one in direct(results(suite_records()), PEAK) for c in one.choices]
    assert set(labels) == {"ParallelComp"}


def test_averaged_joins_accuracy_and_speed_of_two_runs(results):
    accuracy = [
        kind(**ACCURACY | {"workload": name}, **(vs_full(value, 0.01) if kind is record else {}))
        for name, value in (("a", -0.02), ("b", -0.04))
        for kind in (stock, record)
    ]
    unscored = {"score": None, "scorer": None, "n_samples": None}
    fast = {**FULL, "speedup_vs_full": 2.0, **unscored}
    both = results(accuracy, [stock(**unscored), record(**fast), record(**fast, context_tokens=2048)])
    found = averaged(both, SPEED)
    (only,) = found.choices
    assert only.change.mean == pytest.approx(-3.0)
    assert only.gain.value == 2.0
    assert found.title == "mean change over 2 workloads and lengths, gain at passkey, 8,192 tokens"
    assert direct(both, SPEED) == []


def test_averaged_counts_no_average_twice(results):
    found = averaged(results(accuracy_records()), KV)
    assert found.title.startswith("mean change over 3 workloads")
    assert {round(c.change.mean, 6) for c in found.choices} == {-3.1, -0.2}


def test_averaged_is_none_where_one_cell_holds_both(results):
    assert averaged(results([stock(), record()]), PEAK) is None


def test_averaged_keeps_runs_of_the_same_cells_apart(results):
    found = averaged(results(suite_records(run="a"), suite_records(run="b")), PEAK)
    assert [c.series.label for c in found.choices] == ["ParallelComp · a", "ParallelComp · b"]


def test_averaged_keeps_compiled_models_apart(results):
    compiled = [
        replace(r, cell=f"{r.cell} compiled", compile_ms=9.0 if r.samples_ms else None) for r in suite_records(run="b")
    ]
    found = averaged(results(suite_records(run="a"), compiled), PEAK)
    assert [c.series.label for c in found.choices] == ["ParallelComp · a", "ParallelComp · b"]
