"""Gates of a run."""

from itertools import count

import pytest
from report.made_accuracy import vs_full
from report.made_runs import FULL, endings, record, stock, suite_records, write_run

from pcbench.report.gates import gates
from pcbench.report.results import Results
from pcbench.report.runs import read_runs


@pytest.fixture
def found(tmp_path):
    numbers = count()

    def make(*records, **manifest):
        results = Results(read_runs([write_run(tmp_path / f"run{next(numbers)}", records, **manifest)]))
        return {gate.name: gate for gate in gates(results, results.runs[0])}

    return make


def test_gates_pass_for_a_whole_run(found):
    assert {name: gate.passed for name, gate in found(*suite_records()).items()} == {
        "parity": True,
        "complete": True,
        "accuracy": True,
    }


@pytest.mark.parametrize("wrong", [{"status": "parity_failed"}, {"parity_err": 1.0}, {"parity_err": None}])
def test_parity_fails_for_one_cell_without_a_passed_check(found, wrong):
    assert found(record(), record(**wrong, seed=1))["parity"].passed is False


def test_parity_of_stock_code_is_not_checked(found):
    assert found(stock())["parity"].passed is None


def test_complete_takes_out_of_memory_and_unsupported_for_results(found):
    ends = {one.status: one for one in endings()}
    assert found(ends["out_of_memory"], ends["unsupported"])["complete"].passed is True
    assert found(record(), ends["error"])["complete"].passed is False
    assert found(record(), cells=["a" * 12])["complete"].text == "1 cell missing, 0 failed"
    partial = found(record(skipped_records=2))["complete"]
    assert (partial.passed, partial.text) == (False, "0 cells missing, 0 failed, 1 without some of their records")


@pytest.mark.parametrize(("value", "passed"), [(-0.05, False), (-0.02, True), (0.05, True)])
def test_accuracy_fails_where_a_speedup_comes_with_a_lower_score(found, value, passed):
    fast = {**FULL, "speedup_vs_full": 2.0}
    assert found(stock(), record(**fast, **vs_full(value, 0.03)))["accuracy"].passed is passed


def test_accuracy_of_unscored_speed_is_not_checked(found):
    unscored = {"score": None, "scorer": None}
    assert found(stock(**unscored), record(**FULL, speedup_vs_full=2.0, **unscored))["accuracy"].passed is None
