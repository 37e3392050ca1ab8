"""The sentence on top says what the records allow, and what they do not."""

from dataclasses import replace

import pytest
from report.made_accuracy import accuracy_records, vs_full
from report.made_kernels import kernel_records
from report.made_losses import loss_records
from report.made_memory import memory_records
from report.made_runs import FULL, endings, record, stock, suite_records, write_run

from pcbench.report.reading.results import Results
from pcbench.report.reading.runs import read_runs
from pcbench.report.verdict.sentence import sentence

ON = "On Example CPU "


@pytest.fixture
def said(tmp_path):
    def make(*records, **manifest):
        runs = read_runs([write_run(tmp_path / "run", records, **manifest)])
        return sentence(Results(runs), runs[0]).removeprefix(ON)

    return make


PEAKS = {"peak_bytes": 520 << 20, "peak_samples_bytes": [x << 20 for x in (500, 520, 560)]}
SMALL = {"peak_bytes": 260 << 20, "peak_samples_bytes": [x << 20 for x in (250, 260, 280)]}
LARGE = {"peak_bytes": 780 << 20, "peak_samples_bytes": [x << 20 for x in (750, 780, 800)]}
STEADY = {"ms_p10": 99.0, "ms_p50": 100.0, "ms_p90": 101.0}


def ratio(value, low, high):
    names = ("speedup_vs_full", "speedup_vs_full_ci_low", "speedup_vs_full_ci_high")
    return FULL | STEADY | dict(zip(names, (value, low, high), strict=True))


def test_speed_memory_and_accuracy_in_one_sentence(said):
    text = said(stock(**STEADY, **PEAKS), record(**ratio(1.76, 1.73, 1.82), **SMALL, n_samples=6, **vs_full(0.0, 0.39)))
    assert text.endswith(
        "ParallelComp prefilled 8,192 tokens 1.76 [1.73 to 1.82] times as fast as full attention; its peak memory was "
        "2.00 times smaller. Its score shows no significant difference, but 6 prompts cannot rule out 39 points lower "
        "(80.0 against 80.0 of 100 by needle@1)."
    )


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        (ratio(0.8, 0.7, 0.9), "0.800 [0.700 to 0.900] times as fast as full attention;"),
        (ratio(1.1, 0.9, 1.2), "times as fast as full attention (no significant difference);"),
        (ratio(1.1, None, None), "1.10 times as fast as full attention (cannot tell, needs n ≥ 5);"),
        (ratio(2, 1.9, 2.1) | {"ms_p90": 200.0}, "(cannot tell, repeats scatter by 101.0 %);"),
        (ratio(2, 1.9, 2.1) | LARGE, "its peak memory was 1.50 times larger."),
        (ratio(2, 1.9, 2.1) | {"peak_bytes": 260 << 20}, "2.00 times smaller (cannot tell, needs n ≥ 3)."),
        (ratio(2, 1.9, 2.1) | {"peak_bytes": None}, "; memory was not measured."),
        (ratio(2, 1.9, 2.1) | {"score": None}, "Accuracy was not measured beside it."),
        (
            ratio(2, 1.9, 2.1) | {"score": None, "peak_bytes": None},
            "; memory and accuracy were not measured beside it.",
        ),
        (
            ratio(2, 1.9, 2.1) | {"n_samples": 5} | vs_full(0.0, 0.4),
            "There are not enough prompts to compare accuracy: 5 prompts, at least 6 are needed (",
        ),
        (
            ratio(2, 1.9, 2.1) | {"n_samples": 50} | vs_full(-0.3, 0.1),
            "Its score was significantly lower, by 30.0 points over 50 prompts (",
        ),
    ],
)
def test_what_the_records_do_not_allow_is_said(said, changes, wanted):
    assert wanted in said(stock(**STEADY, **PEAKS), record(**changes))


def test_the_fastest_of_several_methods_is_named_with_what_tells_it_apart(said):
    mine = [record(**ratio(x, x - 0.1, x + 0.1), method_config={"micro_batch": n}) for n, x in ((1, 1.2), (4, 1.5))]
    text = said(stock(**STEADY), *mine, record(**ratio(1.3, 1.2, 1.4), method="snapkv"))
    assert "ParallelComp (4 chunks at a time), the fastest of 2 methods, prefilled" in text


@pytest.mark.parametrize(
    ("records", "wanted"),
    [
        (
            accuracy_records(),
            "of 2 methods 1 scored significantly lower than full attention, 1 showed no significant difference in "
            "score from full attention; the best, ParallelComp, 4 chunks kept, scored 0.2 points below full attention.",
        ),
        (
            [replace(one, **vs_full(-0.4, 0.1)) if one.score_vs_full else one for one in accuracy_records()],
            "all 2 methods scored significantly lower than full attention, each by 40.0 points.",
        ),
        (kernel_records(), "1 of 2 kernels were faster than the fastest baseline that ran (1 "),
        (loss_records(), "at 8,192 tokens the loss of SnapKV was 0.0100 nats a token above full attention's, the"),
        (memory_records(), "At 8,192 tokens the peak memory of ParallelComp"),
        (
            [stock(peak_bytes=None), record(peak_bytes=None, score=None)],
            "this run measured nothing that stands beside full attention or a baseline.",
        ),
    ],
)  # fmt: skip
def test_runs_without_times_beside_full_attention_say_what_they_have(said, records, wanted):
    assert wanted in said(*records)


def test_cells_without_a_result_are_counted(said):
    assert said(*suite_records(), *endings()).endswith(
        "4 cells ended without a result: 1 error, 1 out of memory, 1 parity failed, 1 unsupported."
    )
