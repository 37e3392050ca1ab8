"""Records of kernels in a report: their own section, and none of the others' business."""

import pytest
from report.made_kernels import SHAPES, kernel, kernel_records
from report.made_runs import record, suite_records, write_run

from pcbench.report import build

TIMES = "Kernels, one row an op or baseline at a shape"
PAIRS = "Kernels against baselines, one row a pair"


def test_kernels_have_a_section_of_their_own(report):
    page = report(kernel_records())
    assert page.sections == ["verdict", "trust", "kernels", "correctness", "distribution", "cells", "provenance"]
    assert len(page.tables[TIMES]) == len(page.tables["All cells"]) == len(kernel_records())


def test_no_kernels_no_section(report):
    assert "kernels" not in report(suite_records()).sections


def test_times_show_rates_ceiling_and_parity_in_the_order_of_shapes(report):
    rows = report(kernel_records()).tables[TIMES]
    assert [row["shape"] for row in rows] == [shape for shape in SHAPES for _ in range(6)]
    ours, _, flash, *_, cudnn = rows[:6]
    assert ours["cell"] == "calibrated_attention"
    assert [ours[t] for t in ("p50 (ms)", "p10 to p90 (ms)", "rounds")] == ["1.000", "0.9700 to 1.040", "10"]
    assert [ours[t] for t in ("dtype", "TFLOP/s", "of ceiling (%)")] == ["float32", "1.500", "60.0"]
    assert ours["parity (error / bound)"] == "0.2000"
    assert flash["parity (error / bound)"] == "stock code"
    assert (cudnn["status"], cudnn["p50 (ms)"], cudnn["TFLOP/s"]) == ("unsupported", "", "")


def test_every_baseline_that_ran_has_a_ratio_with_its_interval(report):
    rows = [row for row in report(kernel_records()).tables[PAIRS] if row["shape"] == SHAPES[0]]
    found = {row["against"]: row for row in rows}
    assert list(found) == ["calibrated_attention, in pure PyTorch", "sdpa-flash", "sdpa-math", "floor-gemm"]
    assert {row["cell"] for row in rows} == {"calibrated_attention"}
    flash = found["sdpa-flash"]
    assert (flash["speed-up (×)"], flash["reading"]) == ("1.250", "faster")
    low, high = (float(x) for x in flash["95 % interval"].strip("[]").split(", "))
    assert low <= 1.25 <= high
    assert (found["floor-gemm"]["speed-up (×)"], found["floor-gemm"]["reading"]) == ("0.5000", "slower")


def test_floors_are_explained_where_there_are_any(report):
    assert "A floor does less than the op" in report(kernel_records()).text
    some = [one for one in kernel_records() if not one.method.startswith("floor-")]
    assert "A floor does less than the op" not in report(some).text


def test_an_op_without_a_passed_parity_has_no_times_and_no_pairs(report):
    failed = kernel("calibrated_attention", "cpu", SHAPES[0], 1.0, parity_err=3e-6, speedup_vs_baseline=9.0)
    page = report([failed, kernel("sdpa-flash", "torch", SHAPES[0], 2.0)])
    assert page.tables[TIMES][0]["p50 (ms)"] == ""
    assert PAIRS not in page.tables
    assert "Kernels against their fastest baselines" not in page.text


def test_the_headline_counts_what_is_faster_and_names_the_least(report):
    page = report(kernel_records())
    assert "Kernels against their fastest baselines" in page.text
    assert "1 of 2 faster" in page.text
    assert "the least is 0.800× sdpa-flash/torch" in page.text
    assert f"calibrated_attention on calibrated_attention {SHAPES[1]}" in page.text


def test_other_sections_leave_kernels_out(report):
    both = report([*suite_records(), *kernel_records()])
    alone = report(suite_records())
    captions = [
        "Times, one row a cell",
        "Speed-up against full attention, one row a cell",
        "Speed-up against the reference, one row a cell",
        "Memory, one row a cell",
        "Accuracy, one row a cell",
        "Stages, one row a cell",
    ]
    for caption in captions:
        assert len(both.tables[caption]) == len(alone.tables[caption])
    assert len(both.tables["All cells"]) == len(suite_records()) + len(kernel_records())
    assert len(both.tables[TIMES]) == len(kernel_records())
    assert {"Speed-up over full attention at 8,192 tokens", "1 of 2 faster"} <= set(both.text.split("\n"))


def test_kernels_of_two_runs_are_not_compared_with_each_other(tmp_path):
    from report.made_runs import read_page

    folders = [write_run(tmp_path / name, kernel_records()) for name in "ab"]
    rows = read_page(build(folders, tmp_path / "both.html")).tables[PAIRS]
    assert len(rows) == 2 * 2 * 4


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_single_kernel_makes_a_page(report, backend):
    assert "kernels" in report([kernel("calibrated_attention", backend, SHAPES[0], 1.0)]).sections


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
