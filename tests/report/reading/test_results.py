"""Which numbers may be shown, and what tells cells apart."""

import pytest
from report.made_runs import FULL, record, stock, write_run

from pcbench.report.reading.results import FULL_HUE, Results, error_ratio
from pcbench.report.reading.runs import read_runs


@pytest.fixture
def results(tmp_path):
    def make(*records):
        return Results(read_runs([write_run(tmp_path / f"run{len(records)}", records)]))

    return make


@pytest.mark.parametrize(
    ("changes", "usable"),
    [
        ({}, True),
        ({"parity_err": None, "parity_bound": None}, False),
        ({"parity_err": 2e-6}, False),
        ({"parity_err": 1e-6}, True),
        ({"status": "parity_failed", "ms_p50": 5.0}, False),
        ({"status": "out_of_memory"}, False),
    ],
)
def test_usable_needs_ok_and_parity_within_its_bound(results, changes, usable):
    (entry,) = results(record(**changes, **FULL, speedup_vs_full=2.0)).entries
    assert entry.usable is usable
    assert entry.timed is usable
    assert (entry.vs_full is not None) is usable


def test_usable_needs_no_parity_of_stock_code(results):
    (entry,) = results(stock()).entries
    assert entry.usable


def test_engines_stand_apart_and_take_no_colour(results):
    ours = [record(method_config={"keep": keep}) for keep in (1, 2)]
    engine = "openai:http://a"
    served = record(method="full", label=engine, backend="openai", engine=engine, served_ms_p50=9.0)
    alone, found = results(stock(), *ours), results(stock(), served, *ours)
    assert [e.record.engine for e in found.served] == [engine]
    assert [e.record for e in found.entries] == [e.record for e in alone.entries]
    assert [e.series.hue for e in found.entries] == [e.series.hue for e in alone.entries]


def test_score_needs_its_scorer(results):
    (entry,) = results(record(scorer=None)).entries
    assert entry.score is None


def test_series_name_the_parameters_that_differ(results):
    found = results(
        record(method_config={"keep": 1, "chunk": 2}), record(method_config={"keep": 3, "chunk": 2}), stock()
    )
    assert [e.series.label for e in found.entries] == [
        "ParallelComp, 1 chunk kept",
        "ParallelComp, 3 chunks kept",
        "Full attention",
    ]


def test_series_name_nested_parameters_and_dtypes(results):
    a = record(method_config={"evict": {"capacity": 256}}, dtype="float32")
    b = record(method_config={"evict": {"capacity": 512}}, dtype="bfloat16")
    labels = [e.series.label for e in results(a, b).entries]
    assert labels == [
        "ParallelComp, 256 tokens of a chunk kept, float32",
        "ParallelComp, 512 tokens of a chunk kept, bfloat16",
    ]


def test_a_method_has_one_colour_and_full_attention_its_own(results):
    snap = [record(method="snapkv", method_config={"tokens": n}) for n in (256, 512)]
    found = [e.series for e in results(stock(), *snap, record(method="h2o")).entries]
    assert [s.hue for s in found] == [FULL_HUE, 0, 0, 1]
    assert len({s.index for s in found}) == 4
    alone = results(stock(), *snap).entries
    assert [e.series.hue for e in alone] == [FULL_HUE, 0, 1]


def test_entries_are_ordered_by_workload_then_length(results):
    found = results(
        record(context_tokens=8192), record(context_tokens=2048), record(context_tokens=1024, workload="prose")
    )
    assert [(e.panel, e.record.context_tokens) for e in found.entries] == [
        ("passkey", 2048),
        ("passkey", 8192),
        ("prose", 1024),
    ]


def test_stock_of_is_the_named_baseline_of_the_same_group(results):
    other = stock(method="sparse")
    found = results(other, stock(), record(baseline="full/torch/sdpa-flash"), record(context_tokens=2048))
    named, alone = (
        e for e in found.entries if e.record.method == "parallel_comp" and e.record.context_tokens in (2048, 8192)
    )
    named, alone = sorted((named, alone), key=lambda e: -e.record.context_tokens)
    assert found.stock_of(named).record.method == "full"
    assert found.stock_of(alone) is None


@pytest.mark.parametrize(("err", "bound", "ratio"), [(1.0, 4.0, 0.25), (0.0, 0.0, 0.0), (1.0, 0.0, float("inf"))])
def test_error_ratio_of_exact_results(err, bound, ratio):
    assert error_ratio(err, bound) == ratio
