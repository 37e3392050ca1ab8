"""Races of ops against baselines, and the gate of `make benchmark-compare` as a process."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from races import held_against, interleaved, repeats

ROOT = Path(__file__).resolve().parent.parent
RATIOS = [2.0, 2.02, 1.98, 2.01, 1.99, 2.0, 2.03, 1.97]


def test_interleaved_takes_as_many_samples_of_both_and_changes_who_goes_first(monkeypatch):
    order = []
    clock = {"op": 1.0, "baseline": 3.0}
    monkeypatch.setattr("races.sample", lambda function, count: (order.append(function), clock[function])[1])
    monkeypatch.setattr("races.repeats", lambda function: 1)
    found = interleaved("op", "baseline", 6)
    assert found["ratios"] == [3.0] * 6
    assert (found["ratio"], found["ratio_low"], found["ratio_high"]) == (3.0, 3.0, 3.0)
    assert order == ["baseline", "op", "op", "baseline"] * 3


def test_repeats_fill_a_sample(monkeypatch):
    monkeypatch.setattr("races.sample", lambda function, count: 0.0004)
    assert repeats(None) == 5
    monkeypatch.setattr("races.sample", lambda function, count: 0.4)
    assert repeats(None) == 1


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "same"), (0.5, "regression"), (0.95, "slower"), (2.0, "faster")])
def test_held_against_judges_the_op_by_its_time(factor, verdict):
    found = held_against(RATIOS, [factor * ratio for ratio in RATIOS], 0.1)
    assert found["verdict"] == verdict
    assert found["time_ratio"][0] == pytest.approx(1 / factor, rel=0.02)


def test_held_against_few_pairs_cannot_tell():
    found = held_against(RATIOS[:3], RATIOS[:3], 0.1)
    assert found["verdict"] == "cannot tell"


def gate(baseline, *flags):
    command = [sys.executable, "-m", "pytest", "tests/benchmarks/test_selection.py::test_chunk_topk", "-q"]
    command += ["-p", "no:cacheprovider", "--compare-baseline", "--baseline", baseline, *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_gate_records_what_is_new_and_fails_where_the_record_was_much_faster(tmp_path):
    baseline, comment = tmp_path / "baseline.json", tmp_path / "comment.md"
    first = gate(baseline, "--markdown", comment)
    assert first.returncode == 0, first.stdout
    assert "recorded 1 new benchmark in baseline.json" in first.stdout
    assert comment.read_text().startswith("### pcbench benchmarks: 0 regressions beyond 10 % on ")
    ((key, tests),) = json.loads(baseline.read_text()).items()
    assert re.fullmatch(r"\w+/\d+", key)
    assert len(tests["test_chunk_topk"]) == 15
    # as if the op had been a thousand times as fast: a busy machine makes single ratios ten times another
    baseline.write_text(json.dumps({key: {"test_chunk_topk": [1000 * ratio for ratio in tests["test_chunk_topk"]]}}))
    kept = baseline.read_text()
    second = gate(baseline, "--markdown", comment)
    assert second.returncode == 1, second.stdout
    assert "regression" in second.stdout
    assert comment.read_text().startswith("### pcbench benchmarks: 1 regression beyond 10 % on ")
    assert baseline.read_text() == kept


def test_the_record_holds_pairs_that_ratios_can_be_made_of():
    recorded = json.loads((ROOT / "tests" / "benchmarks" / "baseline.json").read_text())
    for tests in recorded.values():
        assert all(len(ratios) >= 5 and min(ratios) > 0 for ratios in tests.values())
