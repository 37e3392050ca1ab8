import csv
import shlex

import pytest
import torch
from tiny import Wrong

from pcbench import ops
from pcbench.errors import ConfigError, Interrupted
from pcbench.harness import runner
from pcbench.harness.kinds.methods import group, session
from pcbench.harness.runner import plan, run
from pcbench.records import JSONL_ONLY, read_records


def by_name(records):
    return {(r.workload, r.context_tokens, r.method, r.backend): r for r in records}


def test_run_leaves_one_ok_record_a_cell(finished):
    records = by_name(read_records(finished.path))
    assert set(records) == {
        *(("passkey", n, "full", "torch") for n in (300, 600)),
        *(("passkey", n, "parallel_comp", "cpu") for n in (300, 600)),
        ("passkey", 300, "parallel_comp", "reference"),
        *(
            ("prose", 400, m, b)
            for m, b in [("full", "torch"), ("parallel_comp", "cpu"), ("parallel_comp", "reference")]
        ),
    }
    assert {(r.status, r.reason) for r in records.values()} == {("ok", None)}
    assert len({r.cell for r in records.values()}) == len(records)


def test_missing_data_of_one_workload_leaves_the_others(options, suite_file, console, tmp_path, monkeypatch):
    monkeypatch.setenv("PCBENCH_DATA", str(tmp_path / "nothing"))
    suite_file.write_text(suite_file.read_text().replace('task = "passkey_prose"', 'task = "longbench/qasper"'))
    sets = ["suite.context_tokens=[300]", "workload.prose.context_tokens=[3000]"]
    _, records = run(options(sets=sets, limit=1, methods=["full"]), console)
    assert [(r.workload, r.status) for r in records] == [("passkey", "ok"), ("prose", "data_missing")]
    assert "put it there, or `pcbench data fetch longbench` as `pcbench data list` says" in records[1].reason


def test_parity_is_null_only_for_stock_code_and_passes(finished):
    for record in read_records(finished.path):
        if record.backend == "torch":
            assert (record.parity_err, record.parity_ops) == (None, None)
            continue
        assert record.parity_err <= record.parity_bound
        assert set(record.parity_ops) == {"calibrated_attention", "cached_attention", "chunk_select"}
        ratios = {op: found["err"] / found["bound"] for op, found in record.parity_ops.items()}
        assert record.parity_err / record.parity_bound == max(ratios.values())


def test_times_belong_to_timed_workloads(finished):
    for record in read_records(finished.path):
        timed = record.workload == "passkey"
        assert (record.ms_p50 is not None) == timed
        assert (record.peak_bytes is not None) == timed
        assert (record.speedup_vs_full is not None) == (timed and record.backend != "torch")
        if timed:
            assert len(record.samples_ms) == record.repeats == 2
            assert record.ms_p10 <= record.ms_p50 <= record.ms_p90
            assert record.decode_ms_per_token > 0
            assert record.prefill_tokens_per_s == pytest.approx((record.context_tokens - 4) / record.ms_p50 * 1e3)


def test_speedups_are_ratios_of_medians_within_the_group(finished):
    records = by_name(read_records(finished.path))
    full, ours = records["passkey", 300, "full", "torch"], records["passkey", 300, "parallel_comp", "cpu"]
    reference = records["passkey", 300, "parallel_comp", "reference"]
    assert ours.speedup_vs_full == pytest.approx(full.ms_p50 / ours.ms_p50)
    assert ours.speedup_vs_reference == pytest.approx(reference.ms_p50 / ours.ms_p50)
    assert ours.speedup_vs_full_ci_low is None
    assert ours.baseline.startswith("full/torch/sdpa-")
    assert reference.speedup_vs_reference is None


def test_chunks_and_kept_tokens_are_counted(finished):
    record = by_name(read_records(finished.path))["passkey", 600, "parallel_comp", "cpu"]
    assert (record.chunks, record.chunks_kept) == (4, 1)
    assert record.chunk_tokens <= 128
    assert record.kept_tokens > record.chunk_tokens
    assert record.kv_bytes == record.kv_bytes_predicted
    assert set(record.stages_ms) == {"embed", "chunks", "selection", "query", "decode"}


def test_every_prompt_of_a_repeat_is_new_and_the_same_for_all_cells(finished):
    samples = finished.samples.read()
    prompts = {}
    for sample in samples:
        prompts.setdefault(sample.cell, []).append(sample.prompt_sha256)
    assert all(len(set(hashes)) == len(hashes) == 2 for hashes in prompts.values())
    assert len({tuple(hashes) for hashes in prompts.values()}) == 3


def test_random_weights_are_not_scored(finished):
    for record in read_records(finished.path):
        assert (record.score, record.scorer) == (None, None)
        assert "random weights: not scored" in record.warnings
    assert {(s.score, s.scorer) for s in finished.samples.read()} == {(None, None)}


def test_the_folder_is_whole(finished):
    manifest = finished.manifest
    assert [r.cell for r in read_records(finished.path)] == manifest["cells"]
    assert manifest["environment"]["torch"] == torch.__version__
    with (finished.path / "records.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(manifest["cells"])
    assert not set(JSONL_ONLY) & set(rows[0])


def test_limit_bounds_the_prompts_of_every_cell(options, console):
    folder, _ = run(options(limit=1, methods=["full"]), console)
    assert len(folder.samples.read()) == 3


def test_the_repro_command_measures_the_same_group_again(options, console, tmp_path):
    from pcbench.cli import main

    folder, _ = run(options(out=tmp_path / "once", limit=1, methods=["full"]), console)
    record = by_name(read_records(folder.path))["prose", 400, "full", "torch"]
    words = shlex.split(record.repro_command)
    assert words[:2] == ["pcbench", "run"]
    with pytest.raises(SystemExit) as ended:
        main([*words[1:], "--out", str(tmp_path / "again")])
    assert ended.value.code == 0
    assert {(r.group, r.cell) for r in read_records(tmp_path / "again")} == {(record.group, record.cell)}


def interrupt_after(monkeypatch, groups):
    """Ctrl-C at the start of a later group."""
    original, seen = runner.measure_group, []

    def measure(*args):
        seen.append(args)
        if len(seen) > groups:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(runner, "measure_group", measure)


def test_an_interrupted_run_resumes_without_losing_or_repeating(options, console, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(Interrupted, match=r"go on with: pcbench run .* --out \S+ --resume"):
            run(options(), console)
    path = options().out
    before = read_records(path)
    assert len(before) == 3
    folder, records = run(options(resume=True), console)
    assert records[:3] == before
    assert sorted(r.cell for r in records) == sorted(folder.manifest["cells"])


def test_resume_takes_a_half_written_group_again(options, console, finished):
    lines = finished.records.path.read_text().splitlines(keepends=True)
    finished.records.path.write_text("".join(lines[:4]) + lines[4][:50])
    folder, records = run(options(resume=True), console)
    cells = [r.cell for r in records]
    assert sorted(cells) == sorted(set(cells)) == sorted(folder.manifest["cells"])
    samples = [(s.cell, s.id) for s in folder.samples.read()]
    assert len(samples) == len(set(samples)) == 2 * len(cells)


def test_resume_of_a_finished_run_measures_nothing(options, console, finished, monkeypatch):
    monkeypatch.setattr(runner, "measure_group", None)
    _, records = run(options(resume=True), console)
    assert [r.cell for r in records] == finished.manifest["cells"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "--out: a new folder, got"),
        ({"resume": True, "sets": ["suite.seed=1"]}, r"suite.seed = 0, with which \S+ began, got 1; see manifest.json"),
        ({"resume": True, "sets": ["suite.repeats=3"]}, "suite.repeats = 2, with .* got 3"),
        ({"resume": True, "sets": ["suite.flush_caches=true"]}, "suite.flush_caches = false, with .* got true"),
        ({"resume": True, "sets": ["suite.budget_bytes=1000"]}, "suite.budget_bytes = null, with .* got 1000"),
        ({"resume": True, "sets": ["suite.warmup_up_to=9"]}, "suite.warmup_up_to = 1, with .* got 9"),
        (
            {"resume": True, "sets": ["suite.relative_error=0.1", "suite.repeats_up_to=2"]},
            "suite.relative_error = null, with .* got 0.1",
        ),
        ({"resume": True, "sets": ["cell.parallel_comp.keep=2"]}, "got one with other cells"),
        ({"resume": True, "sets": ["workload.passkey.task='passkey_prose'"]}, "got one with other tasks"),
        ({"resume": True, "sets": ["workload.passkey.timed=false"]}, "got one with other timed"),
        ({"resume": True, "limit": 1}, "got one with other prompts"),
        ({"resume": True, "sets": ["workload.passkey.new_tokens=5"]}, "got one with other new_tokens"),
    ],
)
def test_a_folder_with_a_run_is_not_overwritten(options, console, finished, changes, message):
    before = finished.records.path.read_text()
    with pytest.raises(ConfigError, match=message):
        run(options(**changes), console)
    assert finished.records.path.read_text() == before


def test_resume_may_change_what_changes_no_number(options, console, finished):
    _, records = run(options(resume=True, isolate=True, sets=["suite.timeout_s=500"]), console)
    assert [r.cell for r in records] == finished.manifest["cells"]


def test_resume_needs_a_run(options, console):
    with pytest.raises(ConfigError, match="--resume: --out with the folder of an interrupted run"):
        run(options(resume=True), console)


def test_a_context_too_short_for_its_task_leaves_the_other_groups(options, console, tmp_path):
    sets = ["suite.context_tokens=[300,10]", "suite.workloads=['passkey']"]
    _, records = run(options(out=tmp_path / "short", limit=1, methods=["full"], sets=sets), console)
    assert [(r.context_tokens, r.status) for r in records] == [(300, "ok"), (10, "unsupported")]
    assert "passkey" in records[1].reason


def test_a_model_too_large_to_load_is_out_of_memory(options, console, tmp_path, monkeypatch):
    def too_large(*_, **__):
        raise MemoryError("weights")

    monkeypatch.setattr(session, "load_runner", too_large)
    _, records = run(options(out=tmp_path / "large", limit=1), console)
    assert {(r.status, r.reason) for r in records} == {("out_of_memory", "weights")}


# of two layers only the range of the recent rule, 1/4 to 1/2, holds one: the first
RULES_OF_TWO_LAYERS = [("recent", [0, 0])]


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ("memory", "out_of_memory", "can't allocate memory"),
        ("error", "error", "RuntimeError: something that nobody expected"),
        ("refuses", "unsupported", "broken: a method that works, got this one"),
    ],
)
def test_a_cell_that_goes_wrong_ends_alone(broken, options, console, how, status, reason):
    broken(how)
    folder, records = run(options(limit=1), console)
    wrong = [r for r in records if r.method == "broken"]
    assert {r.status for r in wrong} == {status}
    assert all(reason in r.reason and "\n" not in r.reason for r in wrong)
    assert all(r.ms_p50 is None and r.speedup_vs_full is None for r in wrong)
    assert {r.status for r in records if r.method != "broken"} == {"ok"}
    if status == "error":
        assert "something that nobody expected" in (folder.path / "errors.txt").read_text()


def test_resume_tries_errors_again(broken, options, console):
    broken("error")
    folder, first = run(options(limit=1, methods=["broken"]), console)
    traces = (folder.path / "errors.txt").read_text()
    _, second = run(options(limit=1, methods=["broken"], resume=True), console)
    assert [r.cell for r in second] == [r.cell for r in first]
    assert len((folder.path / "errors.txt").read_text()) == 2 * len(traces)


def test_a_wrong_kernel_is_not_timed(options, console, monkeypatch):
    real = ops.backend
    monkeypatch.setattr(group.ops, "backend", lambda name, *_: Wrong() if name == "cpu" else real(name))
    _, records = run(options(limit=1), console)
    wrong = [r for r in records if r.backend == "cpu"]
    assert {r.status for r in wrong} == {"parity_failed"}
    for record in wrong:
        assert record.reason == "cached_attention disagrees with the float64 reference"
        assert record.parity_err > record.parity_bound
        assert (record.ms_p50, record.speedup_vs_full, record.speedup_vs_reference, record.score) == (None,) * 4
    assert {r.status for r in records if r.backend != "cpu"} == {"ok"}


def test_a_backend_that_is_not_here_is_unsupported_and_says_why(options, console):
    folder, records = run(options(limit=1, sets=['cell.parallel_comp.backend="cuda"']), console)
    missing = [r for r in records if r.backend == "cuda"]
    assert {r.status for r in missing} == {"unsupported"}
    assert all(ops.why_not("cuda") in r.reason for r in missing)
    assert folder.manifest["builds"]["cuda"] == ops.why_not("cuda")


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ('cell.full.backend="cpu"', r'cell\[0\].backend: unknown backend of full "cpu"; known: torch'),
        ("cell.parallel_comp.kep=1", r'cell\[1\].config: unknown key "kep"; did you mean "keep"'),
        ("cell.parallel_comp.keep=0", r"cell\[1\].config.keep: input should be greater than 0, got 0"),
        ('cell.parallel_comp.calibration=[{zone="sink", layers=[0, 9]}]', r"calibration\[0\].layers must be"),
        ('cell.parallel_comp.backend=["cpu", "auto"]', "every cell once, got ParallelComp on"),
    ],
)
def test_plan_checks_methods_and_backends_before_anything_runs(options, sets, message):
    with pytest.raises(ConfigError, match=message):
        plan(options(sets=[sets]))


def test_resolved_configs_are_in_the_record(options, console):
    _, records = run(options(limit=1, sets=['cell.parallel_comp.calibration="paper"']), console)
    config = next(r for r in records if r.backend == "cpu").method_config
    assert config["micro_batch"] == 1
    assert [(rule["zone"], rule["layers"]) for rule in config["calibration"]] == RULES_OF_TWO_LAYERS
