"""Scores, memory and endings of runs against each other."""

from dataclasses import replace

import pytest
from report.made_comparisons import answered, write
from report.made_runs import record, stock

from pcbench.report.compare.results import endings, memory_changes, score_changes
from pcbench.report.compare.runs import read_compared


@pytest.fixture
def scored(tmp_path):
    """The score change of one cell between two lists of scores."""

    def make(before, after):
        runs = []
        for name, scores in (("a", before), ("b", after)):
            one = replace(record(), score=sum(scores) / len(scores), n_samples=len(scores))
            runs.append(write(tmp_path / name, [one], answered(one, scores)))
        (change,) = score_changes(read_compared(runs))
        return change

    return make


def test_score_changes_pair_prompts_and_test_right_or_wrong_by_mcnemar(scored):
    change = scored([1] * 40, [1] * 30 + [0] * 10)
    assert (change.before, change.after, change.prompts) == (1.0, 0.75, 40)
    assert change.difference == -0.25
    assert change.ci_low < -0.25 < change.ci_high < 0
    assert change.p == pytest.approx(2 / 2**10)
    assert (change.verdict, change.scorer) == ("lower", "needle@1")


def test_score_changes_of_graded_scores_have_no_p(scored):
    change = scored([0.2 + i / 100 for i in range(20)], [0.4 + i / 100 for i in range(20)])
    assert change.difference == pytest.approx(0.2)
    assert (change.p, change.verdict) == (None, "higher")


def test_score_changes_are_not_claimed_where_mcnemar_does_not_see_them(scored):
    # four of four that differ, though Tango's interval hardly holds 0
    change = scored([1] * 30, [1] * 26 + [0] * 4)
    assert change.p == pytest.approx(0.125)
    assert change.ci_high < 0
    assert change.verdict == "no significant difference"


@pytest.mark.parametrize("scores", [[1] * 3, [1] * 5])
def test_score_changes_of_few_prompts_cannot_tell(scored, scores):
    change = scored(scores, [0] * len(scores))
    assert (change.p, change.verdict) == (2 * 0.5 ** len(scores), "cannot tell, needs n ≥ 6")


def test_score_changes_are_not_certain_where_no_prompt_differs(scored):
    change = scored([1, 0, 1, 1, 0, 1], [1, 0, 1, 1, 0, 1])
    assert (change.difference, change.p, change.verdict) == (0.0, 1.0, "no significant difference")
    assert (-change.ci_low, change.ci_high) == pytest.approx((0.39, 0.39), abs=0.005)


def test_score_changes_count_only_prompts_of_both(scored):
    change = scored([1] * 5, [1] * 5 + [0] * 5)
    assert (change.prompts, change.difference, change.after) == (5, 0.0, 0.5)


def test_score_changes_without_samples_cannot_tell(tmp_path):
    one = record()
    runs = [write(tmp_path / name, [one]) for name in "ab"]
    (change,) = score_changes(read_compared(runs))
    assert (change.difference, change.prompts, change.verdict) == (None, 0, "cannot tell, needs n ≥ 6")


def test_score_changes_put_the_worst_first(tmp_path):
    cells = [replace(record(context_tokens=n), score=1.0) for n in (1, 2, 3)]
    wrong = {1: 0, 2: 4, 3: 2}
    before = write(tmp_path / "a", cells, [s for one in cells for s in answered(one, [1] * 6)])
    after = [s for one in cells for s in answered(one, [0] * wrong[one.context_tokens] + [1] * 6)]
    found = score_changes(read_compared([before, write(tmp_path / "b", cells, after)]))
    assert [change.name.split()[-1] for change in found] == ["2", "3", "1"]


def test_memory_changes_list_what_grew_or_fits_less_first(tmp_path):
    before = replace(record(), kv_bytes=100, peak_bytes=1000, longest_context_tokens=4096, chunks_that_fit=7)
    after = replace(before, kv_bytes=110, peak_bytes=500, longest_context_tokens=2048)
    found = memory_changes(read_compared([write(tmp_path / "a", [before]), write(tmp_path / "b", [after])]))
    assert [(c.what, c.before, c.after) for c in found] == [
        ("longest_context_tokens", 4096, 2048),
        ("kv_bytes", 100, 110),
        ("peak_bytes", 1000, 500),
    ]


@pytest.mark.parametrize(("passes", "overlap"), [([500, 520, 600], True), ([610, 620, 630], False)])
def test_memory_changes_say_where_passes_of_a_peak_overlap(tmp_path, passes, overlap):
    before = replace(record(), peak_bytes=580, peak_samples_bytes=[560, 580, 600])
    after = replace(before, peak_bytes=passes[1], peak_samples_bytes=passes)
    (change,) = memory_changes(read_compared([write(tmp_path / "a", [before]), write(tmp_path / "b", [after])]))
    assert (change.what, change.overlap) == ("peak_bytes", overlap)


def test_endings_list_lost_cells_first_and_missing_ones_by_why(tmp_path):
    only_before, lost, new = record(context_tokens=1), record(context_tokens=2), record(context_tokens=4)
    unfinished, alike = record(context_tokens=3), stock(status="unsupported", reason="no kernel here")
    before = write(tmp_path / "a", [only_before, lost, unfinished, alike])
    failed = replace(lost, status="error", reason="ValueError: boom")
    other = replace(alike, reason="no kernel there")
    after = write(tmp_path / "b", [failed, new, other], cells=[failed.cell, new.cell, unfinished.cell, other.cell])
    found = {e.name.split()[-1]: list(e.endings.values()) for e in endings(read_compared([before, after]))}
    assert found == {
        "1": ["ok", "not in the run"],
        "2": ["ok", "error: ValueError: boom"],
        "3": ["ok", "not finished"],
        "4": ["not in the run", "ok"],
    }
    assert list(found)[-1] == "4"
