"""`--quantize`: `full` over the model's own weights beside the same cells over quantised ones, in groups apart."""

import pytest
from harness_suite import ACCURACY

from pcbench.errors import ConfigError, DataMissing
from pcbench.harness.kinds.methods import cells, peak, session
from pcbench.harness.runner import plan, run
from pcbench.models.layers import quantize
from pcbench.report.reading.results import Results
from pcbench.report.reading.runs import read_runs
from pcbench.report.verdict.sentence import sentence

SETS = ["suite.context_tokens=[300]", "suite.workloads=['passkey']", "suite.repeats=2"]
INT8 = "suite.quantize=int8"


@pytest.fixture
def library(monkeypatch):
    """As if it were installed; nothing is loaded."""
    monkeypatch.setattr(cells, "why_absent", lambda name: None)


def test_full_over_own_weights_stands_before_every_quantised_cell(options, library):
    planned = plan(options(sets=[*SETS, INT8])).cells
    whole = plan(options(sets=SETS)).cells
    assert [(p.cell.method, p.cell.quantize) for p in planned] == [
        ("full", None),
        *((p.cell.method, "int8") for p in whole),
    ]
    # the same cell as of a run without the option, and no quantised one is
    assert planned[0].cell.key == whole[0].cell.key
    assert {p.cell.key for p in planned[1:]}.isdisjoint(p.cell.key for p in whole)
    assert {p.cell.group for p in planned[1:]}.isdisjoint(p.cell.group for p in whole)
    assert planned[1].cell.name == "Full attention, int8 weights on passkey, 300 tokens"


def test_full_is_there_where_only_another_method_is_asked_for(options, library):
    planned = plan(options(methods=["snapkv"], sets=[*SETS, INT8])).cells
    assert [(p.cell.method, p.cell.quantize) for p in planned] == [("full", None), ("full", "int8"), ("snapkv", "int8")]


def test_engines_stand_behind_full_over_own_weights_alone(options, library):
    planned = plan(options(methods=["full"], sets=[*SETS, INT8, 'suite.engines=["openai:http://127.0.0.1:1"]'])).cells
    assert [(bool(p.cell.engine), p.cell.quantize) for p in planned] == [(False, None), (True, None), (False, "int8")]
    assert planned[1].cell.group == planned[0].cell.group


def test_estimates_count_smaller_weights(options, library):
    own, other = list(plan(options(methods=["full"], sets=[*SETS, INT8])).kind.estimates())
    assert own.sizes["KV"] == other.sizes["KV"]
    assert own.sizes["weights"] > 1.5 * other.sizes["weights"]


def test_times_and_ratios_are_of_the_same_weights(options, console, monkeypatch):
    pytest.importorskip("bitsandbytes", reason="int4 weights need bitsandbytes")
    # in this process
    monkeypatch.setattr(session, "peak_of", lambda prepared: peak._passes(prepared)[0])
    chosen = ["suite.dtype=bfloat16", "suite.peak_passes=1", "suite.quantize=int4"]
    folder, records = run(options(methods=["parallel_comp"], sets=[*SETS[:2], *chosen]), console)
    own, full, *methods = records
    assert [(r.status, r.reason) for r in records] == [("ok", None)] * len(records)
    assert [r.quantize for r in records] == [None, *["int4"] * (len(records) - 1)]
    assert own.quantization is None
    assert full.quantization["scheme"] == "NF4"
    assert own.weights_bytes > full.weights_bytes == methods[0].weights_bytes
    assert own.group != full.group == methods[0].group
    assert full.peak_bytes > 0
    assert methods[0].speedup_vs_full == pytest.approx(full.ms_p50 / methods[0].ms_p50, rel=0.5)
    (found,) = read_runs([folder.path])
    results = Results([found])
    assert "in bfloat16, int4 weights beside unquantised ones: " in sentence(results, found)
    names = [entry.series.label for entry in results.entries]
    assert names[:2] == ["Full attention, unquantised weights", "Full attention, int4 weights"]


def test_scores_are_held_against_full_over_the_same_weights(options, suite_file, console, trained):
    pytest.importorskip("bitsandbytes", reason="int8 weights need bitsandbytes")
    suite_file.write_text(ACCURACY)
    _, records = run(options(sets=[INT8]), console)
    assert {r.status for r in records} == {"ok"}
    by = {(r.workload, r.method, r.quantize): r for r in records}
    assert by.keys() == {
        (workload, *which)
        for workload in ("passkey", "kv_retrieval", "average")
        for which in (("full", None), ("full", "int8"), ("parallel_comp", "int8"))
    }
    for (workload, method, scheme), record in by.items():
        assert (record.score_vs_full is None) == (method == "full"), record
        if workload != "average":
            assert (record.quantization is None) == (scheme is None)
            assert record.weights_bytes > 0


def test_a_missing_library_ends_a_run_in_one_line(options, monkeypatch):
    monkeypatch.setattr(quantize, "find_spec", lambda name: None)
    with pytest.raises(DataMissing, match=r"^--quantize: bitsandbytes for int8, got no such package; pip install 'pcb"):
        plan(options(sets=[*SETS, INT8]))


@pytest.mark.parametrize("other", ["compile=true", "device_map=auto"])
def test_what_does_not_go_together_is_refused(options, suite_file, library, other):
    if "device_map" in other:
        suite_file.write_text(ACCURACY)
    with pytest.raises(ConfigError, match=rf"suite\.{other.partition('=')[0]} or suite\.quantize, got both; leave one"):
        plan(options(sets=[INT8, f"suite.{other}"]))


def test_an_unknown_scheme_names_the_known_ones(options):
    with pytest.raises(ConfigError, match=r"suite\.quantize: .*'int8', 'int4' or 'fp8'"):
        plan(options(sets=[*SETS, "suite.quantize=int3"]))
