"""The verdict strip says what the records hold and claims what the intervals allow."""

from dataclasses import asdict

import pytest
from report.made_accuracy import UNTIMED, accuracy_records, vs_full
from report.made_memory import memory_records, throughput_records
from report.made_runs import FULL, endings, record, stock, suite_records, write_run

from pcbench.report.reading.results import Results
from pcbench.report.reading.runs import read_runs
from pcbench.report.verdict.headline import verdicts


@pytest.fixture
def verdict(tmp_path):
    def make(*records, **manifest):
        (found,) = verdicts(Results(read_runs([write_run(tmp_path / "run", records, **manifest)])))
        return found

    return make


def faster(low: float | None, high: float | None, **changes):
    return record(**FULL, speedup_vs_full=1.2, speedup_vs_full_ci_low=low, speedup_vs_full_ci_high=high, **changes)


def test_verdict_is_about_the_longest_length_with_a_speedup(verdict):
    found = verdict(*suite_records(), *endings())
    speed, memory, score = found.headlines
    assert speed.title == "Speed-up over full attention at 8,192 tokens"
    assert speed.value == "1.75×"
    assert speed.reading == "faster"
    assert speed.interval == "95 % interval 1.66 to 1.85×"
    assert "ParallelComp, cpu kernels on passkey, 8,192 tokens, against full/torch/sdpa-flash" in speed.detail
    assert (memory.value, memory.interval) == ("3.67×", "one pass each, no spread")
    assert memory.reading == "cannot tell, needs n ≥ 3"
    assert score.value == "0.0 points"
    assert score.reading == "no significant difference"
    assert "needle@1" in score.detail
    assert found.notes == [
        "Longer cells, up to 16,384 tokens, have no number beside full attention's: "
        "1 error, 1 out_of_memory, 1 parity_failed, 1 unsupported."
    ]


@pytest.mark.parametrize(
    ("low", "high", "reading", "interval"),
    [
        (1.1, 1.3, "faster", "95 % interval 1.10 to 1.30×"),
        (0.9, 1.3, "no significant difference", "95 % interval 0.900 to 1.30×"),
        (None, None, "cannot tell, needs n ≥ 5", "no interval: none, needs n ≥ 5"),
    ],
)
def test_verdict_claims_what_the_interval_allows(verdict, low, high, reading, interval):
    found = verdict(stock(), faster(low, high))
    assert (found.headlines[0].reading, found.headlines[0].interval) == (reading, interval)


def test_verdict_says_when_it_shows_the_best_of_several(verdict):
    found = verdict(stock(), faster(1.1, 1.3), faster(1.1, 1.3, method_config={"keep": 2}))
    assert found.headlines[0].detail.endswith("the best of 2 at this length")


def test_verdict_without_parity_has_no_speed(verdict):
    found = verdict(stock(), faster(1.1, 1.3, parity_err=None, parity_bound=None, parity_ops=None))
    assert found.headlines == []
    assert found.notes[0].startswith("No headline number")


def test_verdict_of_scored_cells_has_only_the_score(verdict):
    untimed = {"ms_p10": None, "ms_p50": None, "ms_p90": None, "repeats": None, "peak_bytes": None}
    better = {"score": 1.0, "score_ci_low": 0.98, "score_ci_high": 1.0}
    worse = {"score": 0.5, "score_ci_low": 0.45, "score_ci_high": 0.55}
    (found,) = verdict(stock(**untimed, **better), record(**untimed, **worse)).headlines
    assert (found.value, found.reading) == ("−50.0 points", "lower")


def test_verdict_compares_no_scores_of_different_scorers(verdict):
    found = verdict(stock(scorer="needle@2"), faster(1.1, 1.3))
    assert [headline.evidence for headline in found.headlines] == ["speedup", "memory"]


def test_verdict_counts_cells_by_status(verdict):
    found = verdict(*suite_records(), *endings())
    assert dict(found.statuses) == {"ok": 9, "parity_failed": 1, "error": 1, "out_of_memory": 1, "unsupported": 1}


@pytest.mark.parametrize(
    ("environment", "hardware"),
    [
        ({"device": "cpu", "cpu": "Intel(R) Xeon(R) Processor"}, "Intel Xeon"),
        ({"device": "cpu", "cpu": "Intel(R) Xeon(R) CPU @ 2.20GHz"}, "Intel Xeon @ 2.20GHz"),
        ({"device": "cpu", "cpu": "AMD EPYC 9654 96-Core Processor"}, "AMD EPYC 9654"),
        ({"device": "cuda", "gpu": "NVIDIA H200", "cpu": "AMD EPYC"}, "NVIDIA H200"),
        ({"device": "cpu"}, "cpu"),
    ],
)
def test_a_title_is_what_people_call_a_run(verdict, environment, hardware):
    found = verdict(*suite_records(), environment=environment)
    assert found.title == f"prefill on {hardware}, smollm2-135m, 2026-03-01"


def test_a_title_has_what_is_known_and_names_keep_runs_of_a_page_apart(verdict, tmp_path):
    found = verdict(run="pre16", suite="", created_at="yesterday", environment={})
    assert found.title == "pre16"
    kernels = verdict(*(record(run="k", model="", suite="kernels") for _ in range(2)), environment={})
    assert kernels.title == "kernels, 2026-03-01"
    folders = [write_run(tmp_path / name, suite_records(run=name)) for name in ("before", "after")]
    titles = [one.title for one in verdicts(Results(read_runs(folders)))]
    assert titles == [f"prefill on Example CPU, smollm2-135m, 2026-03-01 · {name}" for name in ("before", "after")]


def test_verdict_names_suite_model_device_and_date(verdict):
    facts = verdict(*suite_records()).facts
    assert facts["run"] == "prefill_cpu"
    assert facts["suite"] == "prefill"
    assert facts["model"] == "smollm2-135m"
    assert facts["hardware"].startswith("Example CPU")
    assert facts["date"] == "2026-03-01 10:00:00+0000"


def test_verdict_says_what_weights_are_that_were_not_trained_so(verdict):
    model = {"name": "smollm2-135m", "weights": "dequantised from a 4-bit GGUF (Q4_1)"}
    assert verdict(*suite_records(), model=model).facts["model"] == f"smollm2-135m ({model['weights']})"
    assert verdict(*suite_records(), model=None).facts["model"] == "smollm2-135m"


def test_verdict_of_an_accuracy_suite_is_the_average_of_the_best_method(verdict):
    (found,) = verdict(*accuracy_records()).headlines
    assert found.title == "Score minus full attention's, mean of 3 datasets"
    assert (found.value, found.interval) == ("−0.2 points", "95 % interval −0.7 to +0.3")
    assert (
        found.detail == "ParallelComp, 4 chunks kept, the best of 2 methods; by workload: 3 no significant difference"
    )


def test_verdict_without_averages_takes_the_mean_of_the_workloads(verdict):
    records = [r for r in accuracy_records() if r.workload != "average"]
    (found,) = [h for h in verdict(*records).headlines if h.evidence == "accuracy"]
    assert found.title == "Score minus full attention's, mean of 3 workloads"
    # three independent half widths of 1 point: the square root of 3, over 3
    assert found.interval == "95 % interval −0.8 to +0.4"


def test_verdict_of_a_mean_names_the_workloads_that_it_leaves_out(verdict):
    records = [r for r in accuracy_records() if r.workload != "average"]
    short = [r for r in records if r.workload != "qasper" or r.is_full]
    (found,) = [h for h in verdict(*short).headlines if h.evidence == "accuracy"]
    assert found.title == "Score minus full attention's, mean of 2 of 3 workloads"
    assert "; without qasper 7,500, which not all methods and full attention have a score of; by" in found.detail


@pytest.mark.parametrize("pairs", [5, 6])
def test_verdict_of_two_workloads_of_few_prompts_shows_what_is_not_known(verdict, pairs):
    """Records from before Tango's interval hold 0 to 0."""
    same = {"n_samples": pairs} | vs_full(0.0, 0.0, 1.0)
    records = [kind(workload=name, **UNTIMED, **(same if kind is record else {"n_samples": pairs}))
               for name in ("one", "two") for kind in (stock, record)]  # fmt: skip
    (found,) = verdict(*records).headlines
    half = 100 * 3.8415 / (pairs + 3.8415) / 2**0.5
    assert found.interval == f"95 % interval −{half:.1f} to +{half:.1f}"
    assert found.reading == ("cannot tell, needs n ≥ 6 each" if pairs == 5 else "no significant difference")


@pytest.mark.parametrize("noisy", ["full", "parallel_comp"])
def test_verdict_of_repeats_that_scatter_says_so(verdict, noisy):
    spread = {"ms_p10": 20000.0, "ms_p50": 22000.0, "ms_p90": 42000.0}
    found = verdict(stock(**spread if noisy == "full" else {}), faster(1.1, 1.3, **spread if noisy != "full" else {}))
    assert found.headlines[0].reading == "cannot tell, repeats scatter by 100.0 %"


@pytest.mark.parametrize(
    ("ours", "reading", "interval"),
    [
        ([300, 310, 320], "lower peak", "1.56 to 1.87× over all passes"),
        ([300, 310, 520], "cannot tell, the passes overlap", "0.962 to 1.87× over all passes"),
        ([570, 580, 600], "higher peak", "0.833 to 0.982× over all passes"),
    ],
)
def test_verdict_of_peaks_is_of_all_passes(verdict, ours, reading, interval):
    full = {"peak_bytes": 520 << 20, "peak_samples_bytes": [x << 20 for x in (500, 520, 560)]}
    mine = {"peak_bytes": ours[1] << 20, "peak_samples_bytes": [x << 20 for x in ours]}
    memory = verdict(stock(**full), faster(1.1, 1.3, **mine)).headlines[1]
    assert (memory.reading, memory.interval) == (reading, interval)
    assert f"{ours[1]}.0 MiB ({ours[0]}.0 to {ours[2]}.0)" in memory.detail


def test_without_times_sentence_and_number_are_of_the_smallest_peak(verdict):
    # the longer context decides before the smaller peak, and records of a method may come in any order
    def peak(mib, method, tokens=8192):
        samples = [mib - 1 << 20, mib << 20, mib + 1 << 20]
        held = {"peak_bytes": mib << 20, "peak_samples_bytes": samples, "context_tokens": tokens, "score": None}
        return (stock if method == "full" else record)(method=method, **UNTIMED | held)

    found = verdict(*(peak(*one) for one in (
        (520, "full"), (480, "snapkv"), (260, "h2o"), (390, "tova"), (400, "full", 4096), (50, "tova", 4096),
    )))  # fmt: skip
    (memory,) = found.headlines
    assert memory.value == "2.00×"
    assert memory.detail.startswith("H2O on passkey, 8,192 tokens, the smallest of 3 methods: 260.0 MiB")
    assert found.sentence.endswith(
        "of 3 methods, H2O had the smallest peak memory at 8,192 tokens: 2.00 times smaller than full attention's."
    )


def test_verdict_names_the_fit_ratio(verdict):
    found = verdict(*memory_records()).headlines[-1]
    assert (found.value, found.reading, found.evidence) == ("1.83×", "more fit", "memory")
    assert "11 chunks in 512.0 MiB" in found.detail


def test_verdict_takes_the_least_fit_ratio_of_the_longest_context(verdict):
    records = memory_records()
    short = next(r for r in records if r.fit_ratio and r.context_tokens == 2048)
    longest = next(r for r in records if r.fit_ratio and r.context_tokens == 8192)
    short.fit_ratio = 2.5
    better = record(**asdict(longest) | {"cell": "other", "method_config": {"keep": 2}, "fit_ratio": 2.0})
    found = verdict(better, *records).headlines[-1]
    assert (found.title, found.value) == ("Chunks that fit at 8,192 tokens, over without token eviction", "1.83×")


def test_verdict_falls_back_on_the_reference(verdict):
    names = ("speedup_vs_reference", "speedup_vs_reference_ci_low", "speedup_vs_reference_ci_high")
    records = throughput_records()
    for one in records:
        if one.backend == "cpu":
            for name, value in zip(names, (1.9, 1.8, 2.0), strict=True):
                setattr(one, name, value)
    found = next(h for h in verdict(*records).headlines if h.evidence == "speedup")
    assert (found.title, found.value, found.reading) == (
        "Speed-up over the reference at 8,192 tokens",
        "1.90×",
        "faster",
    )
