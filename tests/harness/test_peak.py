"""Peak memory: measured in a process of its own, while this one holds no model."""

import weakref

import pytest
import tiny
from harness_suite import SUITE, Meter

from pcbench import registry
from pcbench.harness.kinds.methods import peak, session
from pcbench.harness.runner import Options, plan, run
from pcbench.measure.kernels import timing as kernel_timing

SHORT = {"sets": ["suite.context_tokens=[300]", "suite.workloads=['passkey']"], "limit": 1}
MEMORY = SUITE.replace('kind = "prefill"', 'kind = "memory"')


def test_no_model_and_no_flushed_buffer_are_held_while_a_peak_is_taken(options, console, monkeypatch):
    models, held, load, peak_of = [], [], session.load_runner, session.peak_of

    def loading(*args, **more):
        runner = load(*args, **more)
        models.append(weakref.ref(runner.model))
        return runner

    def peaking(prepared):
        held.append((sum(model() is not None for model in models), kernel_timing._cold.cache_info().currsize))
        return peak_of(prepared)

    monkeypatch.setattr(session, "load_runner", loading)
    monkeypatch.setattr(session, "peak_of", peaking)
    sets = ["suite.context_tokens=[300, 200]", "suite.workloads=['passkey']", "suite.flush_caches=true"]
    _, records = run(options(sets=sets, limit=1), console)
    assert held == [(0, 0)] * len(records)
    figures = [(record.status, record.peak_bytes, record.ms_p50) for record in records]
    assert all(status == "ok" and peak > 0 and ms > 0 for status, peak, ms in figures), figures
    # once a group
    assert len(models) == 2


@pytest.fixture
def wrong(options, suite_file, console, monkeypatch):
    """A run of a kind of suite with a cell whose peak memory goes wrong; its record and its folder."""
    monkeypatch.setitem(registry.METHODS, "wrong", "tiny:BrokenPeak")
    monkeypatch.setattr(peak, "memory_kills", lambda: 0)

    def measure(how, text):
        suite_file.write_text(f'{text}[[cell]]\nmethod = "wrong"\nbackend = "torch"\nconfig = {{ how = "{how}" }}\n')
        folder, (full, record) = run(options(**SHORT, methods=["full", "wrong"]), console)
        assert full.status == "ok"
        assert full.peak_bytes > 0
        return folder, record

    return measure


ENDS = {
    "limit": ("out_of_memory", "you tried to allocate 268435456 bytes"),
    "killed": ("error", "the process that measured peak memory ended with signal SIGKILL"),
    "error": ("error", "RuntimeError: something that nobody expected"),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_peak_that_went_wrong_is_how_a_cell_of_a_memory_suite_ends(how, wrong):
    folder, record = wrong(how, MEMORY)
    status, reason = ENDS[how]
    assert (record.status, record.peak_bytes) == (status, None)
    assert record.reason.startswith("peak memory: ")
    assert reason in record.reason
    assert (folder.path / "errors.txt").exists() is (how != "killed")


@pytest.mark.parametrize("how", ENDS)
def test_a_peak_that_went_wrong_is_a_warning_beside_times(how, wrong):
    _, record = wrong(how, SUITE)
    assert (record.status, record.peak_bytes) == ("ok", None)
    assert record.ms_p50 > 0
    assert any(w.startswith("peak memory: ") and ENDS[how][1] in w for w in record.warnings)


def test_a_system_that_tells_no_peak_is_a_warning_in_a_memory_suite_too(wrong):
    _, record = wrong("elsewhere", MEMORY)
    assert (record.status, record.peak_bytes) == ("ok", None)
    assert "peak memory: PcbenchError: peak memory: another system, got this one" in record.warnings


def test_a_peak_killed_by_a_system_without_memory_is_out_of_memory(wrong, monkeypatch):
    counts = iter([3, 3, 4])
    monkeypatch.setattr(peak, "memory_kills", lambda: next(counts))
    _, record = wrong("killed", MEMORY)
    assert record.status == "out_of_memory"


def test_a_process_killed_inside_its_message_has_no_peak(monkeypatch):
    monkeypatch.setattr(peak, "_measure", tiny.die_inside_a_message)
    monkeypatch.setattr(peak, "memory_kills", lambda: 0)
    (found,) = peak._passes_of_child(None)
    assert (found.bytes, found.status, found.reason) == (None, *ENDS["killed"])


def test_memory_of_the_whole_gpu_is_that_of_the_cells_own_process(options, monkeypatch):
    monkeypatch.setattr(peak, "open_meter", lambda device: Meter())
    prepared = next(p for p in plan(options()).cells if p.cell.timed)
    assert peak._passes(prepared)[0].driver == 4 << 30


def test_a_peak_is_the_median_of_three_passes_and_all_are_kept(options, console, monkeypatch):
    passes = iter([(300, 120), (900, 100), (310, 700)])

    def once(prepared):
        total, embed = next(passes)
        return [peak.Peak(total, [total], {"embed": embed, "forward": total}, driver=total)]

    monkeypatch.setattr(peak, "_passes_of_child", once)
    sets = [*SHORT["sets"], "suite.peak_passes=3"]
    _, (record,) = run(options(sets=sets, limit=1, methods=["full"]), console)
    assert (record.peak_bytes, record.peak_samples_bytes) == (310, [300, 900, 310])
    assert record.phase_bytes == {"embed": 120, "forward": 310}
    assert record.driver_bytes == 900


def test_every_pass_of_a_peak_has_a_process_of_its_own_on_a_cpu(options, console, monkeypatch):
    started, real = [], peak.started
    monkeypatch.setattr(peak, "started", lambda *args: started.append(args[1].cell.key) or real(*args))
    sets = [*SHORT["sets"], "suite.peak_passes=2"]
    _, (record,) = run(options(sets=sets, limit=1, methods=["full"]), console)
    assert started == [record.cell] * 2
    assert len(record.peak_samples_bytes) == 2
    assert min(record.peak_samples_bytes) > 0
    # of two the higher one
    assert record.peak_bytes == max(record.peak_samples_bytes)


def test_three_passes_are_the_rule():
    found = {p.effort.peak_passes for p in plan(Options(suite="prefill", device="cpu")).cells}
    assert found == {p.effort.peak_passes for p in plan(Options(suite="memory", device="cpu")).cells} == {3}


def test_phases_of_memory_are_in_the_record(finished):
    for record in finished.records.read():
        if record.workload != "passkey":
            assert record.phase_bytes is None
            continue
        stages = {"forward"} if record.method == "full" else {"embed", "chunks", "selection", "query"}
        assert set(record.phase_bytes) == {*stages, "decode"}
        assert record.peak_bytes >= max(record.phase_bytes[stage] for stage in stages)
        assert record.reserved_bytes is None


def test_a_model_is_kept_where_no_peak_can_be_taken(options, console, monkeypatch):
    models, load = [], session.load_runner
    monkeypatch.setattr(session, "load_runner", lambda *args, **more: models.append(load(*args, **more)) or models[-1])
    monkeypatch.setattr(session, "is_measurable", lambda prepared: False)
    sets = ["suite.context_tokens=[300, 200]", "suite.workloads=['passkey']"]
    run(options(sets=sets, limit=1, methods=["full"]), console)
    assert len(models) == 1
