"""The numbers on the page are those of the records."""

import pytest
from report.made_runs import endings, record, stock, suite_records

from pcbench.statistics import wilson_interval


def value(text: str) -> float:
    return float(text.replace(",", ""))


def find(rows: list[dict[str, str]], **wanted: str) -> dict[str, str]:
    (row,) = [row for row in rows if all(row[title.replace("_", " ")] == text for title, text in wanted.items())]
    return row


def row_of(rows, one):
    found = [
        row
        for row in rows
        if row["method / backend"] == f"{one.method}/{one.backend}"
        and row["workload"] == one.workload
        and value(row["context tokens"]) == one.context_tokens
    ]
    (row,) = found
    return row


def test_cells_holds_every_record(report):
    records = suite_records() + endings()
    rows = report(records).tables["All cells"]
    assert len(rows) == len(records)
    for one in records:
        row = row_of(rows, one)
        assert row["status"] == one.status
        assert row["reason"] == (one.reason or "")
        for title, number in {
            "p50 (ms)": one.ms_p50,
            "vs full (×)": one.speedup_vs_full,
            "vs reference (×)": one.speedup_vs_reference,
            "peak (MiB)": one.peak_bytes and one.peak_bytes / 2**20,
            "KV (MiB)": one.kv_bytes and one.kv_bytes / 2**20,
            "score (×100)": one.score and one.score * 100,
            "prompts": one.n_samples,
            "prefill (tokens/s)": one.prefill_tokens_per_s,
        }.items():
            if number is None:
                assert row[title] == "", title
            else:
                assert value(row[title]) == pytest.approx(number, rel=5e-4), title


def test_cells_that_failed_have_no_numbers(report):
    failed = record(status="parity_failed", ms_p50=5.0, speedup_vs_full=9.0, score=1.0, scorer="s", peak_bytes=5)
    page = report([stock(), failed])
    row = row_of(page.tables["All cells"], failed)
    assert {row[title] for title in ("p50 (ms)", "score (×100)", "scorer", "peak (MiB)")} == {""}
    assert "speedup" not in page.sections


def test_times_hold_failures_of_timed_workloads_by_status(report):
    rows = report(suite_records() + endings()).tables["Times, one row a cell"]
    assert [row["status"] for row in rows if row["context tokens"] == "16,384"] == [
        "out_of_memory",
        "error",
        "parity_failed",
        "unsupported",
    ]
    assert all((row["p50 (ms)"] == "") == (row["status"] != "ok") for row in rows)
    assert "prose" not in {row["workload"] for row in rows}


def test_times_show_percentiles_noise_and_parity(report):
    (row,) = report([record()]).tables["Times, one row a cell"]
    assert [row[t] for t in ("p10 (ms)", "p50 (ms)", "p90 (ms)", "repeats")] == ["21,510", "21,893", "22,940", "5"]
    assert value(row["noise (p90−p10)/p50 (%)"]) == pytest.approx((22940.5 - 21510.4) / 21893.25 * 100, abs=0.05)
    assert row["parity (error / bound)"] == "0.3100"
    assert row["decode (ms/token)"] == "35.50"


def test_speedups_are_never_in_one_table(report):
    page = report(suite_records())
    full = page.tables["Speed-up against full attention, one row a cell"]
    reference = page.tables["Speed-up against the reference, one row a cell"]
    assert [row["baseline"] for row in full] == ["full/torch/sdpa-flash"] * 3
    assert [row["baseline"] for row in reference] == ["parallel_comp/reference"]
    assert value(find(full, context_tokens="8,192")["speed-up (×)"]) == pytest.approx(38211.5 / 21893.25, rel=5e-4)
    assert find(full, context_tokens="2,048")["reading"] == "no significant difference"
    assert find(full, context_tokens="8,192")["reading"] == "faster"
    assert reference[0]["95 % interval"] == "[1.290, 1.345]"


def test_speedup_without_interval_says_what_it_needs(report):
    page = report([stock(), record(speedup_vs_full=1.5, baseline="full/torch/sdpa-math", repeats=3)])
    (row,) = page.tables["Speed-up against full attention, one row a cell"]
    assert row["95 % interval"] == row["reading"] == "interval needs 5 repeats"
    assert "Speed-up against the reference, one row a cell" not in page.tables


def test_memory_compares_with_prediction_and_stock(report):
    records = [stock(), record(kv_bytes=99 << 20)]
    row = row_of(report(records).tables["Memory, one row a cell"], records[1])
    assert row["peak (MiB)"] == "500.0"
    assert row["peak over stock peak (ratio)"] == "0.5000"
    assert row["KV measured (MiB)"] == "99.00"
    assert row["KV predicted (MiB)"] == "90.00"
    assert row["measured / predicted"] == "1.100"


def test_accuracy_shows_scorer_prompts_and_intervals(report):
    (row,) = report([record(key_chunk_kept=0.8)]).tables["Accuracy, one row a cell"]
    assert row["score (×100)"] == "80.0"
    assert row["score, 95 %"] == "[37.5, 96.4]"
    assert row["scorer"] == "needle@1"
    assert row["prompts"] == "5"
    low, high = wilson_interval(4, 5)
    assert row["kept, 95 %"] == f"[{low * 100:.1f}, {high * 100:.1f}]"


def test_accuracy_shows_no_score_without_its_scorer(report):
    page = report([record(scorer=None, key_chunk_kept=None)])
    assert "accuracy" not in page.sections
    assert "80.0" not in page.text
    assert "1 score without a scorer" in page.text


def test_accuracy_has_a_figure_a_scorer(report):
    page = report([record(), record(scorer="other@3", workload="prose")])
    assert "Score by needle@1" in page.text
    assert "Score by other@3" in page.text


def test_accuracy_of_random_weights_shows_the_choice_alone(report):
    page = report(
        [record(score=None, scorer=None, score_name=None, n_samples=None, score_ci_low=None, score_ci_high=None)]
    )
    (row,) = page.tables["Accuracy, one row a cell"]
    assert row["prompts with a choice"] == "5"
    assert row["needle's chunk kept (×100)"] == "100.0"


def test_stages_show_medians_beside_the_whole(report):
    (row,) = report([record()]).tables["Stages, one row a cell"]
    assert [row[f"{name} (ms)"] for name in ("chunks", "selection", "query")] == ["19,800", "11.25", "1,890"]
    assert row["whole prefill, p50 (ms)"] == "21,893"


def test_correctness_holds_every_cell_and_op(report):
    records = [*suite_records(), *endings()]
    rows = report(records).tables["Errors, one row a cell and op"]
    assert len(rows) == sum(len(one.parity_ops or {}) for one in records)
    exceeding = find(rows, verdict="exceeds bound")
    assert exceeding["error"] == "4.00e-03"
    assert exceeding["bound"] == "1.00e-06"
    assert exceeding["error / bound"] == "4,000"
    assert find(rows, op="chunk_topk", workload="prose")["error / bound"] == "0"


def test_provenance_has_a_command_a_row(report):
    records = suite_records()
    page = report(records)
    rows = page.tables["Commands, one row a cell"]
    assert [row["command that measures it again"] for row in rows] == [records[0].repro_command] * len(records)
    assert {row["cell"] for row in rows} == {one.cell for one in records}
    manifest = {row[""]: row["prefill_cpu"] for row in page.tables["Manifest"]}
    assert manifest["environment.cpu"] == "Example CPU"
    assert manifest["settings.context_tokens"] == "[2048, 8192]"
    assert manifest["planned cells"] == str(len(records))
    methods = page.tables["Methods"]
    assert '{"chunk_tokens": 2048, "keep": 1}' in {row["all parameters"] for row in methods}


def test_every_figure_has_words_and_a_table(report):
    page = report(suite_records())
    figures = [attributes for tag, attributes in page.elements if tag == "figure"]
    pictures = [attributes for tag, attributes in page.elements if tag == "svg" and attributes.get("role") == "img"]
    assert len(figures) == len(pictures) == 11
    assert all(attributes["aria-label"] for attributes in pictures)
    assert page.html.count('<p class="summary">') == 11
    assert "At 8,192 tokens: full/torch 38.21 s (37.64 s to 39.36 s); parallel_comp/cpu 21.89 s" in page.text


def test_kernel_rows_show_op_and_rates(report):
    one = record(
        kind="kernel", op="merge_states", shape="P8 B1 H32", context_tokens=None, tflops=12.5, ceiling_ratio=0.62
    )
    page = report([one])
    (row,) = page.tables["All cells"]
    assert (row["op"], row["shape"], row["TFLOP/s"], row["of ceiling (ratio)"]) == (
        "merge_states",
        "P8 B1 H32",
        "12.50",
        "0.6200",
    )
