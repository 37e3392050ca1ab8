"""The trust box names what a careful reader would ask for."""

from itertools import count

import pytest
from report.made_runs import endings, record, stock, suite_records, write_run

from pcbench.report.reading.results import Results
from pcbench.report.reading.runs import read_runs
from pcbench.report.verdict.trust import trust


@pytest.fixture
def box(tmp_path):
    numbers = count()

    def make(*records, **manifest):
        return trust(Results(read_runs([write_run(tmp_path / f"run{next(numbers)}", records, **manifest)])))

    return make


def said(box, topic: str) -> list[tuple[str, str]]:
    return [(finding.level, finding.text) for finding in box.findings if finding.topic == topic]


def test_trust_names_the_worst_op_and_the_failures(box):
    good, bad = sorted(said(box(*suite_records(), *endings()), "parity"), reverse=True)
    assert good[0] == "good"
    assert "uses 0.3100 of its bound" in good[1]
    assert bad[0] == "bad"
    assert bad[1].startswith("1 cell failed")


def test_trust_withholds_ok_cells_without_parity(box):
    ((level, text),) = said(box(record(parity_err=None, parity_bound=None)), "withheld")
    assert level == "bad"
    assert "ParallelComp on passkey, 8,192 tokens" in text


def test_trust_names_a_method_that_has_no_op_to_check(box):
    records = stock(), record(), record(method="mine", backend="torch")
    assert ("note", "1 cell on torch alone not held against the reference, without speed-ups: mine on passkey, "
        "8,192 tokens.") in said(box(*records), "parity")  # fmt: skip


def test_trust_lists_cells_that_are_not_ok_with_reasons(box):
    table = box(*suite_records(), *endings()).failures
    reasons = [row[-1] for row in table.rows]
    assert reasons == [r.reason for r in sorted(endings(), key=lambda r: ("full", "reference", "cpu", "hip").index(
        "full" if r.method == "full" else r.backend))]  # fmt: skip


def test_trust_lists_each_warning_once_with_its_cells(box):
    table = box(record(warnings=["a", "b"]), record(warnings=["b"], seed=1)).warnings
    assert [row[:2] for row in table.rows] == [["a", "1"], ["b", "2"]]


@pytest.mark.parametrize(
    ("commit", "dirty", "level", "text"),
    [
        ("0123456789abcdef", False, "good", "0123456789ab, no uncommitted changes."),
        ("0123456789abcdef", True, "note", "uncommitted changes"),
        (None, None, "note", "no commit"),
    ],
)
def test_trust_says_which_code_ran(box, commit, dirty, level, text):
    ((found, sentence),) = said(box(record(commit=commit, dirty=dirty)), "commit")
    assert found == level
    assert text in sentence


def test_trust_says_that_few_repeats_have_no_interval(box):
    assert said(box(record(repeats=3)), "repeats") == [
        ("note", "Repeats a timed cell: 3. Under 5 there are no intervals, and no difference is claimed.")
    ]
    assert said(box(record(repeats=7)), "repeats") == [("good", "Repeats a timed cell: 7, interleaved.")]


TIMED = {"ms_p50": 100.0, "samples_ms": [110.0, 100.0, 90.0]}


def test_trust_says_how_long_the_warm_up_was(box):
    records = [record(**TIMED, warmup_ms=[400.0, 102.0, 100.0]), stock(**TIMED, warmup_ms=[120.0])]
    assert said(box(*records), "warm-up") == [
        ("good", "Untimed passes before the times of 2 cells: 1 to 3. The first pass took up to 4.00 times the median "
                 "(ParallelComp on passkey, 8,192 tokens).")
    ]  # fmt: skip
    assert said(box(record()), "warm-up") == []


@pytest.mark.parametrize(("first", "level", "ratio"), [(110.0, "note", "1.10"), (400.0, "bad", "4.00")])
def test_trust_names_cells_whose_first_times_were_not_warmed(box, first, level, ratio):
    cold = record(**TIMED | {"samples_ms": [first, 100.0, 90.0]}, warmup_ms=[])
    assert said(box(cold), "warm-up") == [
        (level, "No pass but that of parity, if any, came before the times of 1 cell. The first pass took up to "
                f"{ratio} times the median (ParallelComp on passkey, 8,192 tokens).")
    ]  # fmt: skip


def test_trust_names_cells_that_were_not_steady(box):
    restless = record(**TIMED, warmup_ms=[400.0, 300.0, 200.0], warnings=["not steady after 3 passes of warm-up"])
    assert said(box(restless), "warm-up")[1] == (
        "bad",
        "Passes were not steady when timing began in 1 cell: ParallelComp on passkey, 8,192 tokens.",
    )


def test_trust_measures_noise(box):
    quiet, noisy = record(ms_p10=99.0, ms_p50=100.0, ms_p90=101.0), stock(ms_p10=90.0, ms_p50=100.0, ms_p90=140.0)
    ((level, text),) = said(box(quiet, noisy), "noise")
    assert level == "bad"
    assert "Above 25.0 % in 1 cell" in text
    assert "26.0 % in the median cell" in text
    assert "50.0 % in the noisiest (Full attention" in text


def test_trust_does_not_warn_of_little_noise(box):
    ((level, text),) = said(box(record(ms_p10=99.0, ms_p50=100.0, ms_p90=101.0)), "noise")
    assert level == "note"
    assert "Above" not in text


def test_trust_sees_missing_cells_and_mixed_records(box):
    records = record(), record(seed=1, commit="other", torch="2.14.0")
    found = box(*records, cells=[*(one.cell for one in records), "c"])
    assert said(found, "coverage")[0][1].startswith("2 of 3 planned cells")
    assert said(found, "mixed") == [("bad", "Records of one run differ in commit, torch.")]


def test_trust_counts_outliers(box):
    ((level, text),) = said(box(record(outliers=2), stock(outliers=0)), "outliers")
    assert level == "note"
    assert text.startswith("2 of 10 times lie beyond 1.5 interquartile ranges; none was dropped.")
    assert said(box(record(outliers=0)), "outliers")[0][0] == "good"
    assert said(box(record()), "outliers") == []


WATCHED = {"telemetry": "nvml"}
QUIET = {"sm_clock_mhz_min": 1700.0, "sm_clock_mhz_max": 1980.0, "temperature_c_max": 61.0, "throttled_ratio": 0.0}


def test_trust_tells_throttling_from_none(box):
    ((level, text),) = said(box(record(**WATCHED, telemetry_summary=QUIET)), "throttling")
    assert (level, text) == ("good", "None seen in 1 cell. Clock 1,700 to 1,980 MHz. Hottest 61 °C.")
    ((level, text),) = said(box(record(**WATCHED, telemetry_summary=QUIET | {"throttled_ratio": 0.2})), "throttling")
    assert level == "bad"
    assert "1 cell: ParallelComp on passkey, 8,192 tokens" in text
    untold = {name: value for name, value in QUIET.items() if name != "throttled_ratio"}
    ((level, text),) = said(box(record(**WATCHED, telemetry_summary=untold)), "throttling")
    assert (level, text) == ("note", "The driver did not tell of 1 cell whether clocks were held down.")
    assert said(box(record()), "throttling") == []


def test_trust_names_other_processes_and_unlike_baselines(box):
    found = box(record(warnings=["2 other processes on the GPU: 4, 5"]), stock(warnings=["40.00, published 45.00 (x)"]))
    assert said(found, "shared")[0][1].startswith("Other processes used the device beside 1 cell: ParallelComp")
    assert said(found, "baseline")[0][1].startswith("Full attention's score is not the published one in 1 cell")
