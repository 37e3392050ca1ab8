"""Changes of accuracy and gains beside full attention."""

import pytest
from report.made_accuracy import vs_full
from report.made_runs import record, stock, write_run

from pcbench.report.changes import kv_gain, mean_change, memory_gain, score_change, score_difference
from pcbench.report.results import Results
from pcbench.report.runs import read_runs
from pcbench.report.wording import Estimate


@pytest.fixture
def results(tmp_path):
    def make(*records):
        return Results(read_runs([write_run(tmp_path / "run", records)]))

    return make


def own(results: Results):
    (entry,) = [e for e in results.entries if e.record.backend == "cpu"]
    return entry


def test_score_change_is_the_paired_one_of_the_record(results):
    found = results(stock(score=0.5), record(**vs_full(-0.02, 0.01, 0.04)))
    change = score_change(found, own(found))
    assert change.points == pytest.approx((-2.0, -3.0, -1.0))
    assert (change.paired, change.p) == (True, 0.04)


def test_score_change_of_other_records_comes_from_two_intervals(results):
    found = results(stock(score=0.6, score_ci_low=0.4904, score_ci_high=0.7004),
                    record(score=0.8, score_ci_low=0.6918, score_ci_high=0.8770))  # fmt: skip
    change = score_change(found, own(found))
    assert change.points == pytest.approx((20.0, 5.24, 33.39), abs=0.02)
    assert not change.paired


@pytest.mark.parametrize("other", [{"scorer": "needle@2"}, {"score": None, "scorer": None}, {"context_tokens": 2048}])
def test_score_change_needs_a_stock_score_of_the_same_scorer_and_group(results, other):
    found = results(stock(**other), record())
    assert score_change(found, own(found)) is None


def test_score_difference_is_newcombes_interval():
    # Newcombe 1998, example (a): 56/70 and 48/80 give 0.2000 [0.0524, 0.3339]
    a, b = Estimate(0.8, 0.6918, 0.8770), Estimate(0.6, 0.4904, 0.7004)
    found = score_difference(a, b)
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.0524, abs=2e-4)
    assert found.high == pytest.approx(0.3339, abs=2e-4)


def test_score_difference_without_intervals_has_none():
    assert score_difference(Estimate(1, None, None), Estimate(0, 0, 0.4)) == Estimate(1, None, None)


def test_mean_change_adds_distances_in_squares():
    found = mean_change([Estimate(1.0, -2.0, 5.0), Estimate(3.0, -1.0, 6.0)])
    assert found == pytest.approx((2.0, 2.0 - 5.0 / 2, 2.0 + 5.0 / 2))


def test_mean_change_has_no_interval_where_one_part_has_none():
    assert mean_change([Estimate(1.0, 0.0, 2.0), Estimate(3.0, None, None)]) == Estimate(2.0, None, None)


def test_gains_are_ratios_of_full_attentions_bytes(results):
    found = results(stock(peak_bytes=1000, kv_bytes=300), record(peak_bytes=250, kv_bytes=100))
    assert memory_gain(found, own(found)).value == 4.0
    assert kv_gain(found, own(found)).value == 3.0


def test_gains_need_parity(results):
    found = results(stock(), record(parity_err=1.0))
    assert memory_gain(found, own(found)) is None
