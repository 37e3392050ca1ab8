from collections import Counter

import pytest
import torch
from harness_suite import Meter
from taped import graphs
from torch.nn.attention import SDPBackend

from pcbench import registry
from pcbench.errors import ConfigError
from pcbench.harness.kinds.methods import group, session
from pcbench.harness.runner import plan, run
from pcbench.measure.steps import NotCaptured
from pcbench.methods.full import Full

ONE_GROUP = {"sets": ["suite.context_tokens=[300]", "suite.workloads=['passkey']"]}


@pytest.fixture
def clocks(monkeypatch):
    """Makes every prefill take the milliseconds that the test says."""
    real = group.clocked

    def take(times):
        rest = iter(times)

        def clocked(function, device):
            result, elapsed = real(function, device)
            return result, type(elapsed)(next(rest))

        monkeypatch.setattr(group, "clocked", clocked)

    return take


def measured(options, console, *sets, **changes):
    chosen = ONE_GROUP["sets"] + list(sets)
    _, records = run(options(**({"methods": ["full"]} | changes), sets=chosen), console)
    return records


def test_every_sample_is_kept_with_its_interval_and_its_outliers_counted(options, console, clocks):
    times = [10.0, 11.0, 10.5, 10.2, 90.0, 10.1]
    clocks([500.0, *times])
    (record,) = measured(options, console, "suite.repeats=6")
    assert (record.warmup_ms, record.samples_ms) == ([500.0], times)
    assert (record.repeats, record.outliers) == (6, 1)
    assert 10.0 <= record.ms_ci_low <= record.ms_p50 <= record.ms_ci_high <= 90.0
    assert record.wall_ms_p50 is None


@pytest.mark.parametrize(
    ("sets", "timed"),
    [
        (["suite.repeats=2"], 2),
        # the stop rule ends the times and not the prompts
        (["suite.repeats=5", "suite.repeats_up_to=9", "suite.relative_error=0.02"], 5),
        (["suite.repeats=8"], 8),
    ],
)
def test_prompts_beyond_the_repeats_are_answered_and_not_timed(options, console, clocks, trained, sets, timed):
    clocks([10.0] * 40)
    folder, (record,) = run(
        options(methods=["full"], sets=[*ONE_GROUP["sets"], *sets, "workload.passkey.prompts=7"]), console
    )
    samples = folder.samples.read()
    assert (record.repeats, len(record.samples_ms), record.n_samples) == (timed, timed, max(timed, 7))
    assert [s.prefill_ms is not None for s in samples] == [True] * timed + [False] * (max(timed, 7) - timed)
    assert len({s.id for s in samples}) == len(samples)


def test_answers_of_random_weights_are_not_asked_for_beyond_the_repeats(options, console):
    (record,) = measured(options, console, "workload.passkey.prompts=7", "suite.repeats=2")
    assert (record.repeats, record.n_samples) == (2, None)


def test_scores_of_a_timed_workload_are_subtracted_from_fulls_in_pairs(options, console, trained):
    _, (full, *others) = run(options(sets=[*ONE_GROUP["sets"], "workload.passkey.prompts=7"]), console)
    assert full.score_vs_full is None
    assert [(r.score_vs_full_pairs, r.score_vs_full) for r in others] == [
        (7, pytest.approx(r.score - full.score)) for r in others
    ]


def test_only_full_is_the_baseline_of_speed(options, suite_file, console, trained, monkeypatch):
    """Another method on torch, before full in the suite, has no passed check, no speed-up, and is nobody's baseline."""
    monkeypatch.setitem(registry.METHODS, "toy", "tiny:Toy")
    toy = '[[cell]]\nmethod = "toy"\nbackend = "torch"\n'
    suite_file.write_text(suite_file.read_text().replace("[[cell]]", f"{toy}[[cell]]", 1))
    sets = [*ONE_GROUP["sets"], "suite.repeats=5"]
    _, records = run(options(sets=sets), console)
    toy, full, *ours = records
    assert (toy.method, full.method) == ("toy", "full")
    assert (full.baseline, full.speedup_vs_full, full.score_vs_full) == (None, None, None)
    assert (toy.status, toy.repeats, toy.parity_ops) == ("ok", 5, None)
    assert (toy.baseline, toy.speedup_vs_full) == (None, None)
    assert "no op was held against the reference: no speed-up is given" in toy.warnings
    assert not any("no speed-up" in warning for record in (full, *ours) for warning in record.warnings)
    assert toy.score_vs_full is not None
    for record in ours:
        assert record.baseline.startswith("full/torch/sdpa-")
        assert record.speedup_vs_full == pytest.approx(full.ms_p50 / record.ms_p50)
        assert record.score_vs_full is not None
    assert toy.speedup_vs_reference is None


def test_a_method_that_calls_no_op_is_not_timed(options, suite_file, console, monkeypatch):
    monkeypatch.setitem(registry.METHODS, "nothing", "tiny:Opless")
    suite_file.write_text(suite_file.read_text() + '[[cell]]\nmethod = "nothing"\nbackend = "cpu"\n')
    _, records = run(options(sets=ONE_GROUP["sets"], methods=["full", "nothing"]), console)
    full, nothing = records
    assert (nothing.status, nothing.samples_ms, nothing.speedup_vs_full) == ("parity_failed", None, None)
    assert nothing.reason == "called no op: nothing could be held against the reference"
    assert full.status == "ok"


def test_the_stop_rule_ends_a_group_when_its_times_are_known(options, console, clocks):
    clocks([10.0] * 40)
    sets = ("suite.repeats=5", "suite.repeats_up_to=9", "suite.relative_error=0.02")
    (record,) = measured(options, console, *sets)
    assert record.repeats == 5
    assert len(record.samples_ms) == 5


def test_the_stop_rule_ends_at_its_cap(options, console, clocks):
    clocks([10.0, *(10.0 * 2**i for i in range(9))])
    sets = ("suite.repeats=2", "suite.repeats_up_to=7", "suite.relative_error=0.02")
    (record,) = measured(options, console, *sets)
    assert record.repeats == 7


def test_warm_up_goes_on_until_steady(options, console, clocks):
    clocks([500.0, 20.0, 10.0, 10.0, 10.0, 11.0, 12.0])
    (record,) = measured(options, console, "suite.warmup_up_to=8")
    assert record.warmup_ms == [500.0, 20.0, 10.0, 10.0, 10.0]
    assert record.samples_ms == [11.0, 12.0]
    assert record.warnings == ["random weights: not scored"]


def test_warm_up_that_is_not_steady_at_its_cap_says_so(options, console, clocks):
    clocks([800.0, 400.0, 200.0, 100.0, 100.0])
    (record,) = measured(options, console, "suite.warmup_up_to=3")
    assert "not steady after 3 passes of warm-up" in record.warnings


def test_the_parity_pass_is_the_warm_up_where_one_pass_is(options, console, clocks):
    clocks([11.0, 12.0])
    (record,) = measured(options, console, "cell.parallel_comp.backend='reference'", methods=["parallel_comp"])
    assert record.warmup_ms == []


def test_the_parity_pass_is_none_of_a_longer_warm_up(options, console, clocks):
    clocks([30.0, 20.0, 19.5, 11.0, 12.0])
    chosen = {"methods": ["parallel_comp"]}
    records = measured(options, console, "suite.warmup_up_to=3", "cell.parallel_comp.backend='reference'", **chosen)
    assert [r.warmup_ms for r in records] == [[30.0, 20.0, 19.5]]


def test_caches_are_flushed_before_every_timed_pass_where_asked(options, console, monkeypatch):
    flushed = []
    monkeypatch.setattr(group, "flush_caches", flushed.append)
    measured(options, console)
    assert flushed == []
    measured(options, console, "suite.flush_caches=true", out=options().out / "flushed")
    assert flushed == [torch.device("cpu")] * 2


def test_telemetry_is_in_the_record_and_other_processes_in_its_warnings(options, console, monkeypatch):
    monkeypatch.setattr(group, "open_meter", lambda device: Meter())
    (record,) = measured(options, console)
    found = record.telemetry_summary
    assert (found["power_w_max"], found["throttled"], found["throttled_ratio"]) == (300.0, "power_cap", 1.0)
    assert found["readings"] >= 2
    assert "1 other process on the GPU: 7000002" in record.warnings
    assert any("throttled in 100%" in warning for warning in record.warnings)


def test_an_error_that_says_nothing_is_named(options, console, monkeypatch):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(group, "device_prompt", no_memory)
    (record,) = measured(options, console)
    assert (record.status, record.reason) == ("out_of_memory", "MemoryError")


def test_what_fits_beyond_the_machine_is_a_warning(options, console, monkeypatch):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(group, "fit", no_memory)
    (record,) = measured(options, console, "suite.budget_bytes=1000")
    assert record.status == "ok"
    assert "budget_bytes 1000 is more than is free here: MemoryError" in record.warnings
    assert (record.budget_bytes, record.longest_context_tokens) == (None, None)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["suite.repeats_up_to=9"], "relative_error and repeats_up_to together, got one of them"),
        (["suite.relative_error=0.1"], "relative_error and repeats_up_to together, got one of them"),
        (["suite.relative_error=0.1", "suite.repeats_up_to=1"], r"at least suite.repeats \(2\), got 1"),
        (["suite.relative_error=2"], "should be less than 1, got 2"),
    ],
)
def test_a_stop_rule_is_whole(options, sets, message):
    with pytest.raises(ConfigError, match=message):
        plan(options(sets=sets))


def test_portable_calls_of_the_measured_passes_are_one_warning(options, console, monkeypatch):
    # before and after each of two passes: what ran before them is not theirs
    found = iter([{"x ran": 2}, {"x ran": 2, "y ran": 3}, {"x ran": 2, "y ran": 3}, {"x ran": 2, "y ran": 7}])
    monkeypatch.setattr(group, "portable_calls", lambda backend: Counter(next(found)))
    (record,) = measured(options, console, "suite.repeats=2")
    assert [text for text in record.warnings if text.endswith(" ran")] == ["y ran"]


def test_stock_code_prefills_by_the_kernel_that_was_the_fastest_in_its_group(options, console, clocks, monkeypatch):
    """As on a GPU; a CPU has two kernels of SDPA."""
    monkeypatch.setattr(group, "is_tried", lambda device: True)
    ran, peaks, prefill, peak_of = [], [], Full.prefill, session.peak_of

    def prefilling(self, prompt, stages):
        ran.append(self.runner.sdpa)
        return prefill(self, prompt, stages)

    def peaking(prepared):
        peaks.append(prepared.effort.sdpa)
        return peak_of(prepared)

    monkeypatch.setattr(Full, "prefill", prefilling)
    monkeypatch.setattr(session, "peak_of", peaking)
    # three passes each of flash and math; then warm-up, two passes of both cells
    clocks([30.0, 9.0, 9.5, 40.0, 8.0, 8.5, *[20.0] * 10])
    chosen = {"methods": ["full", "parallel_comp"]}
    full, *ours = measured(options, console, "cell.parallel_comp.backend='cpu'", **chosen)
    assert full.sdpa_ms == {"flash": 9.0, "math": 8.0}
    assert [record.sdpa_ms for record in ours] == [None]
    assert {record.baseline for record in ours} == {"full/torch/sdpa-math"}
    assert ran[-3:] == [SDPBackend.MATH] * 3
    assert peaks == ["math"] * 2


def test_a_prompt_that_no_kernel_takes_ends_as_it_would_without_a_trial(options, console, monkeypatch):
    def broken(self, prompt, stages):
        raise RuntimeError("something that nobody expected")

    monkeypatch.setattr(group, "is_tried", lambda device: True)
    monkeypatch.setattr(Full, "prefill", broken)
    (record,) = measured(options, console)
    assert (record.status, record.reason) == ("error", "RuntimeError: something that nobody expected")
    assert record.sdpa_ms is None


def replayed(options, console, **changes):
    sets = ("suite.repeats=1", "workload.passkey.new_tokens=6", "cell.parallel_comp.backend=['cpu', 'reference']")
    with graphs():
        return measured(options, console, *sets, **({"methods": ["full", "parallel_comp"]} | changes))


def test_steps_are_timed_without_their_launches_where_the_device_has_graphs(options, console, monkeypatch):
    monkeypatch.setattr(group, "are_replayed", lambda device: True)
    full, ours, reference = replayed(options, console)
    assert [record.status for record in (full, ours, reference)] == ["ok"] * 3
    assert (full.decode_replayed, ours.decode_replayed, reference.decode_replayed) == ("each", "once", None)
    assert ours.decode_speedup_vs_full == pytest.approx(full.decode_ms_per_token / ours.decode_ms_per_token)
    assert set(full.stages_ms) == {"forward", "decode", "capture"}
    # ratios are between lanes that were timed alike
    assert reference.decode_ms_per_token > 0
    assert reference.decode_speedup_vs_full is None
    said = [warning for warning in reference.warnings if "graph" in warning]
    assert len(said) == 2
    assert said[0].startswith("decoding is timed with its launches, no graph: the host waits in aten::")
    assert said[1] == "no ratio of decoding to full attention: only one of them is replayed from graphs"
    assert not any("graph" in warning for record in (full, ours) for warning in record.warnings)


def test_a_step_that_is_no_graph_on_the_device_is_launched(options, console, monkeypatch):
    def refused(*args):
        raise NotCaptured("operation not permitted when stream is capturing")

    monkeypatch.setattr(group, "are_replayed", lambda device: True)
    monkeypatch.setattr("taped.capture", refused)
    (full,) = replayed(options, console, methods=["full"])
    assert (full.decode_replayed, len(full.decode_samples_ms)) == (None, 1)
    said = "decoding is timed with its launches, no graph: operation not permitted when stream is capturing"
    assert said in full.warnings
