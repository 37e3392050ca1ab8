"""Changes of accuracy and gains beside full attention."""

import pytest
from report.made_accuracy import vs_full
from report.made_runs import record, stock, write_run

from pcbench.differences import Difference
from pcbench.report.reading.results import Results
from pcbench.report.reading.runs import read_runs
from pcbench.report.verdict.changes import kv_gain, mean_change, memory_gain, score_change, score_difference
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
    assert change.difference == (*map(pytest.approx, (-2.0, -3.0, -1.0)), 0.04, 10, False)
    assert change.paired


@pytest.mark.parametrize(
    ("fields", "pairs"),
    [
        ({"score_vs_full_pairs": 7}, 7),
        ({"n_samples": 20}, 20),
        # of an average before the record said it, as many as its datasets have on average
        ({"n_samples": 20, "task": "average of a, b, c"}, 6),
    ],
)
def test_score_change_is_of_as_many_pairs_as_the_record_says(results, fields, pairs):
    found = results(stock(), record(**vs_full(-0.02, 0.01) | fields))
    assert score_change(found, own(found)).difference.n == pairs


def test_score_change_of_other_records_comes_from_two_intervals(results):
    found = results(stock(score=0.6, score_ci_low=0.4904, score_ci_high=0.7004),
                    record(score=0.8, score_ci_low=0.6918, score_ci_high=0.8770))  # fmt: skip
    change = score_change(found, own(found))
    assert change.difference == (*(pytest.approx(x, abs=0.02) for x in (20.0, 5.24, 33.39)), None, 10, False)
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


def test_mean_change_is_of_as_many_pairs_as_its_smallest_part():
    parts = [Difference(1.0, -2.0, 5.0, 0.3, 40), Difference(3.0, -1.0, 6.0, None, 8)]
    assert mean_change(parts) == (2.0, 2.0 - 5.0 / 2, 2.0 + 5.0 / 2, None, 8, True)
    assert mean_change(parts[:1]) == parts[0]


def test_mean_change_has_no_interval_where_one_part_has_none():
    parts = [Difference(1.0, 0.0, 2.0, None, 40), Difference(3.0, None, None, None, 4)]
    assert mean_change(parts) == (2.0, None, None, None, 4, True)


def test_gains_are_ratios_of_full_attentions_bytes(results):
    found = results(stock(peak_bytes=1000, kv_bytes=300), record(peak_bytes=250, kv_bytes=100))
    assert memory_gain(found, own(found)).value == 4.0
    assert kv_gain(found, own(found)).value == 3.0
    # room for an answer is no gain nor loss
    found = results(stock(kv_bytes=300, kv_bytes_prompt=300), record(kv_bytes=100, kv_bytes_prompt=60))
    assert kv_gain(found, own(found)).value == 5.0


def test_memory_gain_spans_what_the_passes_allow(results):
    full, ours = {"peak_samples_bytes": [900, 1000, 1200]}, {"peak_samples_bytes": [200, 250, 300]}
    found = results(stock(peak_bytes=1000, **full), record(peak_bytes=250, **ours))
    assert memory_gain(found, own(found)) == (4.0, 3.0, 6.0)


def test_only_full_is_what_scores_and_peaks_are_held_against(results):
    """A later method with backend torch stands in the same group."""
    toy = {"method": "toy", "score": 0.1, "peak_bytes": 1, "n_samples": 10}
    found = results(stock(**toy), stock(score=0.5, peak_bytes=1000), record(peak_bytes=500))
    assert memory_gain(found, own(found)).value == 2.0
    other = next(e for e in found.entries if e.record.method == "toy")
    assert memory_gain(found, other).value == 1000.0
    assert score_change(found, other).difference.mean == pytest.approx(-40.0)
    assert score_change(found, own(found)).difference.mean == pytest.approx(30.0)


def test_gains_need_parity(results):
    found = results(stock(), record(parity_err=1.0))
    assert memory_gain(found, own(found)) is None
