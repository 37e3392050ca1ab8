"""Gates of a run."""

from itertools import count

import pytest
from report.made_accuracy import vs_full
from report.made_runs import FULL, endings, record, stock, suite_records, write_run

from pcbench.report.reading.results import Results
from pcbench.report.reading.runs import read_runs
from pcbench.report.verdict.gates import gates


@pytest.fixture
def found(tmp_path):
    numbers = count()

    def make(*records, **manifest):
        results = Results(read_runs([write_run(tmp_path / f"run{next(numbers)}", records, **manifest)]))
        return {gate.name: gate for gate in gates(results, results.runs[0])}

    return make


def test_gates_pass_for_a_whole_run(found):
    gates = found(*suite_records())
    assert {name: gate.state for name, gate in gates.items()} == dict.fromkeys(
        ("parity", "complete", "speed"), "passed"
    ) | {"accuracy": "cannot tell"}
    assert gates["speed"].text == "repeats behind 3 speed-ups scatter by at most 4.5 %, under 25.0 %"
    # 8 of 10 beside 8 of 10: the hypotenuse of Wilson's distances
    assert gates["accuracy"].text.endswith(
        "; the lowest interval is [−34.13, +34.13] points, which cannot rule out 34.1 points lower"
    )


@pytest.mark.parametrize("wrong", [{"status": "parity_failed"}, {"parity_err": 1.0}, {"parity_err": None}])
def test_parity_fails_for_one_cell_without_a_passed_check(found, wrong):
    assert found(record(), record(**wrong, seed=1))["parity"].state == "failed"


def test_parity_of_stock_code_is_not_checked(found):
    assert found(stock())["parity"].state == "not checked"


def test_complete_takes_out_of_memory_and_unsupported_for_results(found):
    ends = {one.status: one for one in endings()}
    assert found(ends["out_of_memory"], ends["unsupported"])["complete"].state == "passed"
    assert found(record(), ends["error"])["complete"].state == "failed"
    assert found(record(), cells=[record().cell, "a" * 12])["complete"].text == "1 cell missing, 0 failed"
    absent = found(record(), record(seed=1, status="data_missing", reason="no table"))["complete"]
    assert (absent.state, absent.text) == ("not checked", "1 cell without data, none failed")
    partial = found(record(skipped_records=2))["complete"]
    assert (partial.state, partial.text) == ("failed", "0 cells missing, 0 failed, 1 without some of their records")


FAST = {**FULL, "speedup_vs_full": 2.0, "speedup_vs_full_ci_low": 1.9, "speedup_vs_full_ci_high": 2.1}


@pytest.mark.parametrize(("value", "state"), [(-0.05, "failed"), (-0.02, "passed"), (0.05, "passed")])
def test_accuracy_fails_where_a_speedup_comes_with_a_lower_score(found, value, state):
    assert found(stock(), record(**FAST, **vs_full(value, 0.03)))["accuracy"].state == state


@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (-1.0, 0.0625)])
def test_accuracy_of_five_prompts_is_neither_passed_nor_failed(found, value, p):
    few = {"n_samples": 5, "score_vs_full_pairs": 5, "score_ci_low": 0.4, "score_ci_high": 1.0}
    gate = found(stock(**few), record(**FAST, **vs_full(value, 0.0, p) | few))["accuracy"]
    assert (gate.state, gate.text) == (
        "cannot tell", "1 of 1 timed cell beside full attention's score: cannot tell, needs n ≥ 6"
    )  # fmt: skip
    assert found(stock(**few), record(**FAST, **few))["accuracy"].state == "cannot tell"


def test_accuracy_is_not_significant_where_mcnemar_does_not_see_it(found):
    assert found(stock(), record(**FAST, **vs_full(-0.4, 0.1, 0.125)))["accuracy"].state == "cannot tell"


@pytest.mark.parametrize(("method", "p90"), [("full", 30.0), ("parallel_comp", 20.0)])
def test_speed_of_repeats_that_scatter_cannot_tell(found, method, p90):
    """266 % of the median is the worst that a trial saw."""
    noisy = {"ms_p10": 9.0, "ms_p50": 10.0, "ms_p90": p90}
    full, ours = stock(**noisy if method == "full" else {}), record(**FAST, **noisy if method != "full" else {})
    gate = found(full, ours)["speed"]
    share = 100 * (p90 - 9) / 10
    assert (gate.state, gate.text) == (
        "cannot tell", f"repeats behind 1 of 1 speed-up scatter beyond 25.0 %, up to {share:.1f} %"
    )  # fmt: skip


def test_speed_of_noise_that_no_ratio_hangs_on_is_passed(found):
    noisy = {"ms_p10": 9.0, "ms_p50": 10.0, "ms_p90": 30.0}
    assert found(stock(), record(**FAST), record(**noisy, context_tokens=64))["speed"].state == "passed"


def test_speed_of_few_repeats_cannot_tell(found):
    gate = found(stock(repeats=3), record(**FULL, speedup_vs_full=2.0, repeats=3))["speed"]
    assert (gate.state, gate.text) == ("cannot tell", "1 of 1 speed-up from under 5 repeats")


def test_accuracy_of_unscored_speed_is_not_checked(found):
    unscored = {"score": None, "scorer": None}
    assert found(stock(**unscored), record(**FAST, **unscored))["accuracy"].state == "not checked"


def test_parity_is_not_checked_where_a_method_has_no_op(found):
    """Nor is a speed-up shown that an older run gave it."""
    gates = found(stock(), record(**FAST), record(**FAST, method="mine", backend="torch"))
    assert (gates["parity"].state, gates["parity"].text) == (
        "not checked", "1 cell on torch alone without an op to check, 1 within bounds"
    )  # fmt: skip
    assert "of 1 speed-up" in gates["speed"].text or "behind 1 speed-up" in gates["speed"].text
