"""A small suite of kernels on the CPU, end to end."""

import json
import shlex
from collections import Counter

import pytest
import torch
from harness_suite import Meter

from pcbench import ops, reference
from pcbench.cli import main
from pcbench.errors import ConfigError, Interrupted
from pcbench.harness import runner
from pcbench.harness.kinds.kernel import group as kernel_group
from pcbench.harness.kinds.kernel import session as kernel_session
from pcbench.harness.kinds.kernel.cells import prepare_kernels
from pcbench.harness.runner import Options, plan, run
from pcbench.records import read_records
from pcbench.statistics import ratio_interval
from pcbench.suites import load_suite

SUITE = """
# Small kernels.
[suite]
kind = "kernel"
rounds = 5
grid = "tiny"
dtype = "float32"
[[kernel]]
op = "calibrated_attention"
[kernel.grid.tiny]
baselines = ["sdpa-flash", "sdpa-math", "sdpa-cudnn", "floor-no-mass"]
shapes = [{ heads = 4, kv_heads = 2, keys = 100, dim = 64, mass_rows = [0, 8] }]
[[kernel]]
op = "select_tokens"
[kernel.grid.tiny]
baselines = ["torch-topk", "floor-copy"]
shapes = [{ batch = 2, heads = 4, kv_heads = 2, keys = 100, dim = 64, capacity = 20 }]
[[kernel]]
op = "query_nll_update"
[kernel.grid.tiny]
shapes = [{ rows = 9, columns = 100 }]
"""


@pytest.fixture
def suite_file(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture
def options(suite_file, tmp_path, monkeypatch):
    monkeypatch.setattr("pcbench.measure.machine.ceilings.PROBE_S", 0.0)
    monkeypatch.setattr("pcbench.measure.kernels.timing.SAMPLE_MS", 0.1)
    return lambda **changes: Options(**(dict(suite=str(suite_file), device="cpu", out=tmp_path / "run") | changes))


def by_name(records):
    return {(r.op, r.shape, r.method, r.backend): r for r in records}


ATTENTION = "B1 H4 Hkv2 Q100 S100 D64 causal"
SELECT = "B2 H4 Hkv2 S100 D64 keep20 pool7"


def test_run_leaves_a_record_an_op_and_baseline(options, console):
    folder, records = run(options(), console)
    found = by_name(records)
    assert list(found) == [
        *(
            ("calibrated_attention", shape, *side)
            for shape in (ATTENTION, f"{ATTENTION} r8")
            for side in (
                ("calibrated_attention", "cpu"),
                ("calibrated_attention", "reference"),
                ("sdpa-flash", "torch"),
                ("sdpa-math", "torch"),
                ("sdpa-cudnn", "torch"),
            )
        ),
        ("calibrated_attention", f"{ATTENTION} r8", "floor-no-mass", "cpu"),
        *(("select_tokens", SELECT, "select_tokens", backend) for backend in ("cpu", "reference")),
        *(("select_tokens", SELECT, name, "torch") for name in ("torch-topk", "floor-copy")),
        *(("query_nll_update", "X9 Vt100", "query_nll_update", backend) for backend in ("cpu", "reference")),
    ]
    assert {r.kind for r in records} == {"kernel"}
    assert [r.cell for r in records] == folder.manifest["cells"]
    for key, record in found.items():
        if key[2] == "sdpa-cudnn":
            assert record.status == "unsupported"
            assert record.reason.startswith("sdpa-cudnn: ")
            assert record.ms_p50 is None
        else:
            check_ok(record)
    check_ratios(found)


def check_ok(record):
    assert (record.status, record.reason) == ("ok", None)
    assert record.ms_p10 <= record.ms_p50 <= record.ms_p90
    assert len(record.samples_ms) == record.repeats == 5
    assert record.ceiling_ratio > 0
    assert (record.tflops is None) == (record.op != "calibrated_attention")
    assert (record.gib_per_s is None) == (record.op == "calibrated_attention")
    if record.backend == "torch":
        assert (record.parity_err, record.parity_ops, record.speedup_vs_baseline) == (None,) * 3
    else:
        assert record.parity_err <= record.parity_bound
        assert (record.method == "floor-no-mass") == (record.speedup_vs_reference is None and record.backend == "cpu")
        assert set(record.parity_ops) == {record.op}


def check_ratios(found):
    for op, shape in (("calibrated_attention", ATTENTION), ("select_tokens", SELECT)):
        group = {key[2:]: r for key, r in found.items() if key[:2] == (op, shape)}
        ours, reference = group[op, "cpu"], group[op, "reference"]
        stock = [r for r in group.values() if r.backend == "torch" and r.ms_p50 and not r.method.startswith("floor-")]
        fastest = min(stock, key=lambda r: r.ms_p50)
        assert ours.baseline == f"{fastest.method}/torch"
        low_high = ours.speedup_vs_baseline_ci_low, ours.speedup_vs_baseline_ci_high
        assert (ours.speedup_vs_baseline, *low_high) == ratio_interval(fastest.samples_ms, ours.samples_ms)
        assert ours.speedup_vs_reference == pytest.approx(reference.ms_p50 / ours.ms_p50)
        assert reference.speedup_vs_reference is None
        assert len({r.group for r in group.values()}) == 1
    alone = found["query_nll_update", "X9 Vt100", "query_nll_update", "cpu"]
    assert (alone.baseline, alone.speedup_vs_baseline) == (None, None)
    assert alone.speedup_vs_reference > 0
    assert len({r.group for r in found.values()}) == 4


def test_rates_are_work_over_the_median(options, console):
    _, records = run(options(methods=["calibrated_attention"], limit=1), console)
    record = records[0]
    assert record.tflops == pytest.approx(4 * 4 * 64 * 100 * 100 / 2 / record.ms_p50 / 1e9)
    assert (record.repeats, record.speedup_vs_baseline_ci_low) == (1, None)


@pytest.mark.parametrize("launched", [{"torch-topk"}, {"reference"}, {"torch-topk", "floor-copy", "cpu"}])
def test_ratios_are_between_lanes_that_were_timed_alike(options, console, monkeypatch, launched):
    sides, real = iter(("cpu", "reference", "torch-topk", "floor-copy")), kernel_group.make_sampler

    def sampler(call, device):
        made = real(call, device)
        made.timed_by = "launches" if next(sides) in launched else "graph"
        return made

    monkeypatch.setattr(kernel_group, "make_sampler", sampler)
    _, records = run(options(methods=["select_tokens"]), console)
    ours = records[0]
    alike = {"torch-topk", "reference"} - (launched if "cpu" not in launched else {"reference"})
    assert ours.baseline == ("torch-topk/torch" if "torch-topk" in alike else None)
    assert (ours.speedup_vs_baseline is None) == ("torch-topk" not in alike)
    assert (ours.speedup_vs_reference is None) == ("reference" not in alike)
    assert [w.split()[3] for w in ours.warnings] == [
        f"{name},"
        for name in ("select_tokens/reference", "torch-topk/torch")
        if name.split("/")[1] not in alike and name.split("/")[0] not in alike
    ]


class Wrong:
    """The CPU backend with one op that is off by a little in its last row."""

    def __getattr__(self, name):
        def off(*args, **kwargs):
            out, lse, mass = getattr(reference, name)(*args, **kwargs)
            out[..., -1, :] *= 1 + 1e-4
            return out, lse, mass

        return off if name == "calibrated_attention" else getattr(reference, name)


def test_a_wrong_kernel_is_not_timed(options, console, monkeypatch):
    real = ops.backend
    monkeypatch.setattr(kernel_group.ops, "backend", lambda name: Wrong() if name == "cpu" else real(name))
    _, records = run(options(limit=1), console)
    wrong = [r for r in records if (r.op, r.backend) == ("calibrated_attention", "cpu")]
    # two shapes, and one of them without its mass
    assert len(wrong) == 3
    for record in wrong:
        assert record.status == "parity_failed"
        assert record.reason == "calibrated_attention: out disagrees with the float64 reference"
        assert record.parity_err > record.parity_bound
        numbers = (record.ms_p50, record.samples_ms, record.tflops, record.ceiling_ratio, record.speedup_vs_baseline)
        assert numbers == (None,) * 5
    assert {r.status for r in records if r.backend == "reference"} == {"ok"}
    assert all(r.speedup_vs_reference is None for r in records if r.op == "calibrated_attention")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("can't allocate memory: 9 GiB"), "out_of_memory"),
        (RuntimeError("select_tokens: memory for [9] must be there, got CUDA out of memory"), "out_of_memory"),
        (KeyError("odd"), "error"),
    ],
)
def test_a_baseline_that_goes_wrong_ends_alone(options, console, monkeypatch, error, status):
    def fails(*_):
        raise error

    monkeypatch.setattr(kernel_group, "make_baseline", fails)
    folder, records = run(options(limit=1, methods=["select_tokens"]), console)
    assert {r.status for r in records if r.backend == "torch"} == {status}
    assert {r.status for r in records if r.backend != "torch"} == {"ok"}
    assert "Traceback" in (folder.path / "errors.txt").read_text()


def test_a_call_that_ran_a_portable_kernel_says_so(options, console, monkeypatch):
    real, seen = ops.query_nll_update, Counter({"of an earlier cell": 4})

    def portable(*args, **kwargs):
        seen["query_nll_update ran the portable kernel"] += 1
        return real(*args, **kwargs)

    monkeypatch.setattr(ops.backend("cpu"), "query_nll_update", portable)
    monkeypatch.setattr(kernel_group, "portable_calls", lambda backend: Counter(seen if backend == "cpu" else {}))
    _, records = run(options(limit=1, methods=["query_nll_update"]), console)
    (record,) = [r for r in records if r.backend == "cpu"]
    assert [text for text in record.warnings if "portable" in text] == ["query_nll_update ran the portable kernel"]
    assert "of an earlier cell" not in record.warnings


def test_a_backend_that_is_not_here_is_unsupported_and_says_why(options, console, monkeypatch):
    monkeypatch.setattr("pcbench.harness.kinds.kernel.cells.compiled_backend", lambda device: "hip")
    _, records = run(options(limit=1, methods=["query_nll_update"]), console)
    missing = next(r for r in records if r.backend == "hip")
    assert missing.status == "unsupported"
    assert ops.why_not("hip") in missing.reason


def test_an_interrupted_run_resumes_without_losing_or_repeating(options, console, monkeypatch):
    with monkeypatch.context() as patch:
        measured, original = [], runner.measure_group

        def measure(*args):
            measured.append(args)
            if len(measured) > 2:
                raise KeyboardInterrupt
            return original(*args)

        patch.setattr(runner, "measure_group", measure)
        with pytest.raises(Interrupted, match=r"go on with: pcbench run .* --out \S+ --resume"):
            run(options(limit=1), console)
    before = read_records(options().out)
    assert len(before) == 11
    folder, records = run(options(limit=1, resume=True), console)
    assert records[:11] == before
    assert [r.cell for r in records] == folder.manifest["cells"]


def test_the_repro_command_measures_the_same_group_again(options, console, tmp_path):
    _, records = run(options(limit=1), console)
    for record in (records[0], records[-1]):
        words = shlex.split(record.repro_command)
        planned = plan(Options(suite=words[3], device="cpu", methods=[words[words.index("--method") + 1]],
                               sets=[words[words.index("--set") + 1]], limit=1))  # fmt: skip
        assert {p.cell.key for p in planned.cells} == {r.cell for r in records if r.group == record.group}


def test_a_group_of_another_dtype_has_its_ceiling_and_command(options, console, monkeypatch):
    seen, real = [], kernel_session.measure_ceilings
    monkeypatch.setattr(kernel_session, "measure_ceilings", lambda *args: seen.append(args[1]) or real(*args))
    sets = ["kernel.query_nll_update.dtype=['float32', 'bfloat16']"]
    _, records = run(options(limit=1, methods=["query_nll_update"], sets=sets), console)
    assert seen == [torch.float32, torch.bfloat16]
    for dtype in ("float32", "bfloat16"):
        group = [r for r in records if r.dtype == dtype]
        words = shlex.split(group[0].repro_command)
        narrowed = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        again = plan(options(limit=1, methods=["query_nll_update"], sets=narrowed))
        assert {p.cell.key for p in again.cells} == {r.cell for r in group}


def test_telemetry_of_the_group_is_in_every_record_and_other_processes_are_told(options, console, monkeypatch):
    monkeypatch.setattr(kernel_group, "open_meter", lambda device: Meter())
    _, records = run(options(limit=2, methods=["query_nll_update"]), console)
    for record in records:
        found = record.telemetry_summary
        assert (found["power_w_max"], found["throttled"]) == (300.0, "power_cap")
        told = f"the GPU was throttled in 100% of {found['readings']:g} readings: power_cap"
        assert record.warnings == ["1 other process on the GPU: 7000002", told]
    assert len(records) == 2


def test_isolation_measures_as_without(options, console):
    _, records = run(options(limit=1, isolate=True, methods=["query_nll_update"]), console)
    assert [(r.backend, r.status) for r in records] == [("cpu", "ok"), ("reference", "ok")]


def test_a_killed_group_gives_records(options):
    from pcbench.harness.kinds.kernel.session import KernelSession

    cells = plan(options(methods=["query_nll_update"])).cells
    shared = {"run": "r"}
    lost = KernelSession(shared).lost(cells, "again", "error", "the group's process was killed")
    assert [(r.status, r.reason) for r in lost.records] == [("error", "the group's process was killed")] * 2


def test_the_reference_stops_at_its_work(options):
    backends = [p.cell.backend for p in plan(options(sets=["suite.reference_up_to_gflop=0.001"])).cells]
    assert backends.count("reference") == 2


@pytest.mark.parametrize("device", ["cpu", "cuda", "rocm"])
def test_the_bundled_suite_prepares_every_op_on_every_device(device):
    prepared = prepare_kernels(load_suite("kernels", device), device)
    assert {p.op for p in prepared} == set(reference.__all__)
    compiled = [p for p in prepared if p.cell.backend == ops.compiled_backend(device) and not p.changes]
    assert len(compiled) == len({p.cell.group for p in prepared})


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ("kernel.select_tokens.kes=3", r'kernel\[1\].grid.tiny.shapes\[0\]: unknown key "kes"; did you mean "keys"'),
        (
            "kernel.select_tokens.keys=0",
            r"kernel\[1\].grid.tiny.shapes\[0\].keys: input should be greater than 0, got 0",
        ),
        ('kernel.select_tokens.baselines=["torch-top"]', r"kernel\[1\].grid.tiny.baselines: unknown baseline of sel"),
        ("kernel.select_tokens.keys=[7, 7]", "every cell once, got select_tokens on select_tokens B2"),
    ],
)
def test_plan_checks_shapes_and_baselines_before_anything_runs(options, sets, message):
    with pytest.raises(ConfigError, match=message):
        plan(options(sets=[sets]))


def test_the_command_line_runs_a_suite_of_kernels(suite_file, tmp_path, capsys):
    arguments = ["run", "--suite", str(suite_file), "--device", "cpu", "--limit", "1", "--method", "query_nll_update"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--out", str(tmp_path / "run")])
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["2 ok", str(tmp_path / "run" / "report.html")]
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["model"], manifest["environment"]["torch"]) == (None, torch.__version__)
    main_dry_run(arguments, capsys)


def main_dry_run(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--dry-run"])
    printed = capsys.readouterr().out
    assert ended.value.code in (0, None)
    assert "2 cells on cpu" in printed
    assert "read and written MiB" in printed
