"""The numbers on the page are those of the records."""

import re

import pytest
from report.made_accuracy import accuracy_records
from report.made_memory import memory_records, throughput_records
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
        if row.get("method / backend", f"{one.method}/{one.backend}") == f"{one.method}/{one.backend}"
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


def test_speedups_are_never_in_one_table(report):
    page = report(suite_records())
    full = page.tables["Speed-up against full attention, one row a cell"]
    reference = page.tables["Speed-up against the reference, one row a cell"]
    assert [row["baseline"] for row in full] == ["full/torch/sdpa-flash"] * 3
    assert [row["cell"] for row in reference] == ["ParallelComp"]
    assert "baseline" not in reference[0]
    assert value(find(full, context_tokens="8,192")["speed-up (×)"]) == pytest.approx(38211.5 / 21893.25, rel=5e-4)
    assert find(full, context_tokens="2,048")["reading"] == "no significant difference"
    assert find(full, context_tokens="8,192")["reading"] == "faster"
    assert reference[0]["95 % interval"] == "[1.290, 1.345]"


def test_speedup_without_interval_says_what_it_needs(report):
    page = report([stock(), record(speedup_vs_full=1.5, baseline="full/torch/sdpa-math", repeats=3)])
    (row,) = page.tables["Speed-up against full attention, one row a cell"]
    assert (row["95 % interval"], row["reading"]) == ("none, needs n ≥ 5", "cannot tell, needs n ≥ 5")
    assert "Speed-up against the reference, one row a cell" not in page.tables


def test_the_kernels_that_full_attention_was_tried_with_stand_beside_the_speedup(report):
    title = "A pass of full attention by each kernel of torch's SDPA, one row a cell"
    assert title not in report(suite_records()).tables
    records = [
        stock(sdpa_ms={"flash": 13000.0, "math": 90000.0}),
        record(baseline="full/torch/sdpa-flash", speedup_vs_full=1.5),
    ]
    (row,) = report(records).tables[title]
    assert (row["flash (ms)"], row["math (ms)"]) == ("13,000", "90,000")


def test_memory_compares_with_prediction_and_stock(report):
    records = [stock(), record(kv_bytes=99 << 20)]
    row = find(report(records).tables["Memory, one row a cell"], cell="ParallelComp", context_tokens="8,192")
    assert row["peak (MiB)"] == "500.0"
    assert row["peak, times smaller than full's (×)"] == "2.000"
    assert row["KV measured (MiB)"] == "99.00"
    assert row["KV predicted (MiB)"] == "90.00"
    assert row["measured / predicted"] == "1.100"


def test_accuracy_shows_scorer_prompts_and_intervals(report):
    (row,) = report([record(key_chunk_kept=0.8)]).tables["Accuracy, one row a cell"]
    assert row["score (×100)"] == "80.0"
    assert row["score, 95 %"] == "[49.0, 94.3]"
    assert row["scorer"] == "needle@1"
    assert row["prompts"] == "10"
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
    # decoding lies behind the prefill: no part of it
    assert (row["outside the stages (%)"], row["the answer after it (ms)"]) == ("0.9", "400.0")


def test_correctness_holds_every_cell_and_op(report):
    records = [*suite_records(), *endings()]
    rows = report(records).tables["Errors, one row a cell and op"]
    assert len(rows) == sum(len(one.parity_ops or {}) for one in records)
    exceeding = find(rows, verdict="exceeds bound")
    assert exceeding["error"] == "4.00e-03"
    assert exceeding["bound"] == "1.00e-06"
    assert exceeding["error / bound"] == "4,000"
    assert find(rows, op="chunk_topk", workload="prose")["error / bound"] == "0"


def test_provenance_says_by_what_chunks_attended(report):
    commands, column = "Commands, one row a cell", "attention of chunks"
    assert column not in report(suite_records()).tables[commands][0]
    own = record(attention_kernel="cudnn, own", attention_ms={"own": 1.25, "cudnn": 0.75})
    rows = report([stock(), own]).tables[commands]
    assert sorted(row[column] for row in rows) == ["", "cudnn, own (a call: own 1.250 ms, cudnn 0.7500 ms)"]


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


@pytest.mark.parametrize("make", [suite_records, accuracy_records, throughput_records, memory_records])
def test_every_figure_has_words_and_a_table(report, make):
    page = report(make())
    figures = [attributes for tag, attributes in page.elements if tag == "figure"]
    pictures = [attributes for tag, attributes in page.elements if tag == "svg" and attributes.get("role") == "img"]
    assert len(figures) == len(pictures) > 3
    assert all(attributes["aria-label"] for attributes in pictures)
    assert page.html.count('<p class="summary">') == len(figures)
    drawn = re.findall(r'<section id="(\w+)">(?:(?!</section>).)*<figure', page.html, re.DOTALL)
    assert len(drawn) >= 3
    for name in drawn:
        assert re.search(rf'<section id="{name}">(?:(?!</section>).)*<table', page.html, re.DOTALL), name


def test_times_are_said_in_words(report):
    text = report(suite_records()).text
    assert "At 8,192 tokens: Full attention 38.21 s (37.64 s to 39.36 s); ParallelComp 21.89 s" in text


def test_times_print_the_fitted_line(report):
    times = {n: 0.5 * n + 2e-4 * n * n for n in (2048, 4096, 8192)}
    lines = [stock(context_tokens=n, ms_p10=ms, ms_p50=ms, ms_p90=ms, seed=0) for n, ms in times.items()]
    (row,) = report(lines).tables["Fitted lines, one row a series"]
    assert (row["linear (ms per 1,000 tokens)"], row["quadratic (ms per 1,000² tokens)"]) == ("500.0", "200.0")
    assert value(row["quadratic part at the longest (%)"]) == pytest.approx(
        100 * 2e-4 * 8192 / (0.5 + 2e-4 * 8192), abs=0.05
    )


def test_times_say_where_series_end(report):
    page = report(suite_records() + endings())
    rows = {row["series"]: row for row in page.tables["Where series end"]}
    assert rows["Full attention"]["longest context timed"] == "8,192"
    assert rows["Full attention"]["longer ones"] == "16,384: out_of_memory"
    assert rows["ParallelComp, hip kernels"]["longest context timed"] == "none"
    assert "OOM" in page.html


def test_rates_show_chunks_against_the_micro_batch(report):
    page = report(throughput_records())
    assert "Chunks a second against micro_batch" in page.text
    assert "ParallelComp, 8,192 tokens: 0.2200 at 1, 0.2400 at 2, 0.2800 at 4." in page.text
    row = find(
        page.tables["Throughput, one row a cell"],
        cell="ParallelComp, 4 chunks at a time",
    )
    assert row["chunks/s"] == "0.2800"
    rows = page.tables["Decoding, one row a cell"]
    assert {row["decode (ms/token)"] for row in rows} == {"35.50"}


def test_memory_shows_phases_and_what_fits(report):
    page = report(memory_records())
    evicting = "ParallelComp, 1,024 tokens of a chunk kept"
    row = find(page.tables["Budgets, one row a cell"], cell=evicting, context_tokens="8,192")
    assert (row["budget (MiB)"], row["chunks that fit"], row["longest context, every chunk kept (tokens)"]) == (
        "512.0",
        "11",
        "24,576",
    )
    assert row["fit ratio, to without token eviction"] == "1.833"
    row = find(page.tables["Memory by phase, one row a cell"], cell="ParallelComp", context_tokens="8,192")
    assert [row[f"{name} (MiB)"] for name in ("chunks", "selection", "query")] == ["400.0", "120.0", "210.0"]
    assert "11 chunks in 512.0 MiB, 1.83× those without token eviction" in page.text


def test_memory_shows_allocator_and_driver(report):
    (row,) = report([record(reserved_bytes=600 << 20, driver_bytes=900 << 20)]).tables["Memory, one row a cell"]
    assert (row["allocator reserved (MiB)"], row["driver, whole GPU (MiB)"]) == ("600.0", "900.0")


def test_accuracy_compares_with_full_prompt_by_prompt(report):
    page = report(accuracy_records())
    rows = [row for row in page.tables["Accuracy, one row a cell"] if row["workload"] == "qasper"]
    full, low, same = rows
    assert full["reading"] == ""
    assert (low["minus full's (points)"], low["minus full's, 95 %"], low["reading"]) == (
        "−3.10",
        "[−4.30, −1.90]",
        "lower",
    )
    assert (same["reading"], same["McNemar p"], same["prompt by prompt"]) == (
        "no significant difference",
        "0.700",
        "paired",
    )
    assert {row["texts of the prompts"] for row in rows} == {"official"}
    assert {row["scorer"] for row in rows} == {"longbench@1+indel"}


def test_accuracy_of_averages_needs_no_parity(report):
    page = report(accuracy_records())
    assert len([row for row in page.tables["Accuracy, one row a cell"] if row["workload"] == "average"]) == 3
    assert "withheld" not in page.text


def test_correctness_sums_up_by_op(report):
    rows = report([*suite_records(), *endings()]).tables["Largest errors, one row an op, backend and dtype"]
    worst = find(rows, op="calibrated_attention", backend="cpu")
    assert (worst["largest error / bound"], worst["in"]) == (
        "4,000",
        "ParallelComp, cpu kernels on passkey, 16,384 tokens",
    )


def test_correctness_of_many_cells_shows_the_largest(report):
    ops = {f"op{i}": {"err": 1e-7, "bound": 1e-6} for i in range(20)}
    many = [record(seed=i, parity_ops=ops, parity_err=i * 1e-9, parity_bound=1e-6) for i in range(100)]
    rows = report(many).tables["Errors, one row a cell and op"]
    assert len(rows) == 500
    assert {row["cell"] for row in rows} == {f"ParallelComp, seed {i}" for i in range(75, 100)}


def test_distribution_shows_drift_in_order(report):
    page = report([record(samples_ms=[100.0, 102.0, 101.0, 120.0, 122.0, 121.0], outliers=0)])
    (row,) = page.tables["Raw times, one row a cell"]
    assert (row["least (ms)"], row["most (ms)"], row["outliers"]) == ("100.0", "122.0", "0")
    assert value(row["second half over first (%)"]) == pytest.approx((121 / 101 - 1) * 100, abs=0.05)


def test_provenance_lists_packages_apart(report):
    page = report(suite_records())
    assert page.tables["Packages"] == [{"package": "pcbench", "prefill_cpu": "0.1.0"}]
    assert not [row for row in page.tables["Manifest"] if row[""].startswith("environment.packages")]
