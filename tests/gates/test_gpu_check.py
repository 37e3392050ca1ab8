"""tools/gpu_check.sh with a Python that only notes what it is asked to run, and the figures that it reads."""

import os
import re
import shlex
import subprocess
import sys
import tarfile
import time
from collections import Counter
from dataclasses import asdict

import pytest
from builds import ROOT
from gpu_figures import kernel_lines, operation_ratio, prefill_lines

from pcbench.types import Record

PARTS = ("parity", "sanitizer", "attention", "prefill", "kernels", "prefill_long")
# notes its arguments; is a CUDA machine; FAILS and HANGS name what does not work
PYTHON = """#!/bin/bash
echo "$*" >>"$NOTES"
case "$*" in *"'rocm' if"*) echo cuda ;; esac
[ -n "$FAILS" ] && case "$*" in *"$FAILS"*) echo broken; exit 3 ;; esac
[ -n "$HANGS" ] && case "$*" in *"$HANGS"*) sleep 60 ;; esac
exit 0
"""
HANG_S = 60
# finds the planted fault unless BLIND
SANITIZER = """#!/bin/bash
found=0
[ -z "$BLIND" ] && case "$*" in *"--tool initcheck"*) found=9 ;; esac
while [ "$1" != "$PYTHON" ]; do shift; done
"$@" || exit
exit $found
"""


@pytest.fixture
def check(tmp_path):
    """check(*arguments, **environment): (exit code, what it printed, commands of the made Python)."""
    tools, notes = tmp_path / "tools", tmp_path / "notes"
    tools.mkdir()
    for name, text in (("python", PYTHON), ("compute-sanitizer", SANITIZER)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    def run(*arguments, **environment):
        notes.write_text("")
        environment = {"PYTHON": tools / "python", "NOTES": notes, "FAILS": "", "HANGS": "", "BLIND": ""} | environment
        environment |= {"PATH": f"{tools}:{os.environ['PATH']}"}
        command = [ROOT / "tools/gpu_check.sh", tmp_path / "out", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
        return done.returncode, done.stdout + done.stderr, notes.read_text()

    return run


WANTED = {
    "parity": ["-m pcbench check --device cuda", "tests/ops/test_determinism.py", "tests/triton_parity.py bfloat16"],
    "sanitizer": ["tools/small_calls.py"] * 3,
    "attention": ["/attention --method calibrated_attention --method cached_attention", "tools/gpu_figures.py"],
    "kernels": ["gpu_check_kernels/kernels", "tools/gpu_figures.py"],
    "prefill": ["/prefill --set suite.context_tokens=[8192,32768]", "tools/gpu_figures.py"],
    "prefill_long": ["/prefill_long --set suite.context_tokens=[131072]", "tools/gpu_figures.py"],
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_builds_runs_and_leaves_a_summary_and_an_archive(check, part, tmp_path):
    status, said, commands = check("--only", part)
    assert status == 0, said
    asked = commands.splitlines()
    assert asked[0].startswith("-m pip install")
    assert len([c for c in asked if any(wanted in c for wanted in WANTED[part])]) == len(WANTED[part])
    assert not any(wanted in commands for other in {*PARTS} - {part} for wanted in WANTED[other][:1])
    summary = (tmp_path / f"out/gpu_check_{part}.txt").read_text()
    assert summary.splitlines()[-1] == "nothing failed"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"gpu_check_{part}.{x}" for x in ("txt", "tar.gz")}
    with tarfile.open(tmp_path / f"out/gpu_check_{part}.tar.gz") as archive:
        names = archive.getnames()
    assert {f"gpu_check_{part}/{x}" for x in (f"gpu_check_{part}.txt", "build.log", "ready.log")} <= {*names}


# `timeout -k 10 SECONDS COMMAND...` that notes the seconds
TIMEOUT = """#!/bin/bash
echo "seconds $3" >>"$NOTES"
exec "${@:4}"
"""


def test_without_a_choice_every_part_runs_the_first_four_in_fifteen_minutes(check, tmp_path):
    (tmp_path / "tools/timeout").write_text(TIMEOUT)
    (tmp_path / "tools/timeout").chmod(0o755)
    status, said, commands = check()
    assert status == 0, said
    assert sorted(path.name for path in (tmp_path / "out").glob("*.txt")) == sorted(f"gpu_check_{p}.txt" for p in PARTS)
    # a part builds first
    limits = [int(n) for n in re.findall(r"^seconds (\d+)\n-m pip install", commands, re.M)]
    assert len(limits) == len(PARTS)
    assert sum(limits[: PARTS.index("kernels")]) <= 15 * 60
    assert max(limits) <= 10 * 60
    places = [commands.index(WANTED[part][0]) for part in PARTS]
    assert places == sorted(places)


def test_a_step_that_fails_is_said_and_kept(check, tmp_path):
    status, said, commands = check("--only", "kernels", FAILS="pcbench run")
    assert status == 1
    assert "FAILED (3) in " in said
    assert "broken" in said
    assert said.splitlines()[-1] == "something failed: see the logs in the archive"
    assert "gpu_figures" in commands
    assert (tmp_path / "out/gpu_check_kernels.tar.gz").exists()


def test_a_sanitizer_that_sees_no_kernel_of_ours_is_no_proof(check):
    status, said, commands = check("--only", "sanitizer", BLIND="1")
    assert status == 1
    assert "FAILED: compute-sanitizer did not see a planted fault in a kernel of ours" in said
    assert "small_calls" not in commands


def test_a_machine_that_is_not_ready_runs_no_part(check):
    status, _, commands = check("--only", "parity", FAILS="ops.backend")
    assert status == 1
    assert "pcbench check" not in commands


def test_a_part_ends_when_its_time_is_over(check, tmp_path):
    status, said, _ = check("--only", "parity", HANGS="pcbench check", PCBENCH_PART_SECONDS="2")
    assert status == 1
    assert "stopped: the time of this part is over" in said
    assert (tmp_path / "out/gpu_check_parity.tar.gz").exists()


@pytest.mark.parametrize("probe", ["torch.ones(9", "merge_states"], ids=["attach", "planted"])
def test_a_sanitizer_that_hangs_ends_when_the_time_is_over(check, probe, tmp_path):
    began = time.monotonic()
    status, said, commands = check("--only", "sanitizer", HANGS=probe, PCBENCH_PART_SECONDS="5")
    assert time.monotonic() - began < HANG_S
    assert status == 1, said
    assert "stopped: the time of this part is over" in said
    assert "small_calls" not in commands
    assert (tmp_path / "out/gpu_check_sanitizer.tar.gz").exists()


def test_a_sanitizer_that_cannot_attach_is_said_and_fails_nothing(check):
    status, said, commands = check("--only", "sanitizer", FAILS="torch.ones(9")
    assert status == 0, said
    assert "not run: compute-sanitizer does not work here" in said
    assert "small_calls" not in commands


def test_the_lengths_of_the_prefill_parts_are_those_of_the_suite():
    from pcbench.suites import load_suite

    options = re.findall(r"suite prefill (.*)", (ROOT / "tools/gpu_check.sh").read_text())
    settings = [load_suite("prefill", "cuda", sets=shlex.split(text)[1::2]).settings for text in options]
    lengths = [s.context_tokens for s in settings]
    assert len(lengths) == 2
    assert lengths[0] + lengths[1] == load_suite("prefill", "cuda").settings.context_tokens


@pytest.mark.parametrize("arguments", [["--only", "speed"], ["--only"]])
def test_an_unknown_part_is_refused(check, arguments):
    status, said, commands = check(*arguments)
    assert (status, commands) == (2, "")
    assert said.startswith(f"usage: tools/gpu_check.sh DIR [--only {'|'.join(PARTS)}]")


def record(op, shape, method, ms, backend="cuda", **more):
    fields = dict(suite="kernels", kind="kernel", group="g", cell=f"{op}{shape}{method}", model="", method_config={})
    fields |= dict(run="r", device="cuda", dtype="bfloat16", seed=0, workload=op, status="ok", ms_p50=ms)
    return Record(op=op, shape=shape, method=method, backend=backend, **fields | more)


ATTENTION = "B1 H32 Hkv8 Q4096 S4096 D128 causal"
LAUNCHED = {"warnings": ["timed with its launches, no graph: it waits"]}


ABSENT = ("no record of this shape", "fewer than two sizes with a time of the device")


def lines_of(*records):
    return [line for line in kernel_lines(list(records)) if not line.endswith(ABSENT)]


def attention(ms, **stock):
    """Lines of `calibrated_attention` and what stock kernels, or attention by libraries, took."""
    op = "calibrated_attention"
    others = [record(op, ATTENTION, name.replace("_", "-"), theirs, "torch") for name, theirs in stock.items()]
    return lines_of(record(op, ATTENTION, op, ms), *others)


@pytest.mark.parametrize(("ms", "word"), [(1.0, "met"), (1.3, "NOT MET")])
def test_attention_is_held_against_the_fastest_stock_kernel_of_the_run(ms, word):
    head = f"calibrated_attention {ATTENTION}"
    assert attention(ms, sdpa_flash=1.5, sdpa_cudnn=1.2, sdpa_math=9.0, by_cudnn=1.25, by_flash=1.6) == [
        f"{word}: {head}: the fastest stock kernel over it {1.2 / ms:.3f}, wanted >= 1",
        # chunks run by the faster of the two
        f"{word}: {head}: the fastest stock kernel over what chunks run by {1.2 / min(ms, 1.25):.3f}, wanted >= 1",
        f"no bar: {head}: it over attention by cuDNN {ms / 1.25:.3f}",
        f"no bar: {head}: it over attention by flash {ms / 1.6:.3f}",
        f"no bar: {head}: SDPA-cuDNN over it {1.2 / ms:.3f}",
        f"no bar: {head}: SDPA-flash over it {1.5 / ms:.3f}",
    ]
    # a machine without cuDNN
    found = attention(ms, sdpa_flash=1.5)
    assert found[0] == f"met: {head}: the fastest stock kernel over it {1.5 / ms:.3f}, wanted >= 1"
    assert f"no figure: {head}: SDPA-cuDNN over it" in found


@pytest.mark.parametrize("sides", [(LAUNCHED, {}), ({}, LAUNCHED), (LAUNCHED, LAUNCHED)])
def test_lanes_that_were_timed_with_their_launches_give_no_figure(sides):
    op = "calibrated_attention"
    ours, theirs = sides
    found = lines_of(
        record(op, ATTENTION, op, 1.0, **ours), record(op, ATTENTION, "sdpa-flash", 1.2, "torch", **theirs)
    )
    says = ("the fastest stock kernel over it", "the fastest stock kernel over what chunks run by")
    says += ("it over attention by cuDNN", "it over attention by flash", "SDPA-cuDNN over it", "SDPA-flash over it")
    assert found == [f"no figure: {op} {ATTENTION}: {name}" for name in says]


def test_a_bandwidth_that_was_timed_with_its_launches_is_no_figure():
    op, shape = "cached_attention", "B1 H32 Hkv8 Q1 P2 S4096 D128"
    found = lines_of(record(op, shape, op, 1.0, ceiling_ratio=0.9, **LAUNCHED))
    assert found == [f"no figure: {op} {shape}: share of the copy bandwidth"]


@pytest.mark.parametrize("status", ["parity_failed", "error", "unsupported"])
def test_an_op_that_gave_no_time_says_why(status):
    op = "calibrated_attention"
    ours = record(op, ATTENTION, op, None, status=status, reason="out: 1e-1 of 8e-3")
    found = lines_of(ours, record(op, ATTENTION, "sdpa-flash", 1.2, "torch"))
    assert found == [f"no figure: {op} {ATTENTION}: {status}: out: 1e-1 of 8e-3"]


def test_a_baseline_that_gave_no_time_gives_no_figure():
    op = "calibrated_attention"
    theirs = record(op, ATTENTION, "sdpa-flash", 1.2, "torch", status="error", reason="broken")
    found = lines_of(record(op, ATTENTION, op, 1.0), theirs)
    assert f"no figure: {op} {ATTENTION}: the fastest stock kernel over it" in found
    assert not [line for line in found if not line.startswith("no figure")]


def test_bytes_and_bandwidth_are_read():
    small, large, chunks = (
        "B1 H32 Hkv8 Q1 P2 S4096 D128",
        "B16 H32 Hkv8 Q1 P1 S4096 D128",
        "X1080 E4096 V128256 M36 K3",
    )
    found = lines_of(
        record("cached_attention", small, "cached_attention", 1.0, ceiling_ratio=0.5),
        record("cached_attention", large, "cached_attention", 1.0, ceiling_ratio=0.9),
        record("chunk_select", chunks, "chunk_select", 1.1, peak_bytes=1080 * 128256 // 5),
        record("chunk_select", chunks, "floor-gemm", 1.0, "torch"),
    )
    assert found == [
        f"met: cached_attention {large}: share of the copy bandwidth 0.900, wanted >= 0.8",
        f"no bar: cached_attention {small}: share of the copy bandwidth 0.500",
        f"met: chunk_select {chunks}: it over the bare GEMM 1.100, wanted <= 1.7",
        f"NOT MET: chunk_select {chunks}: bytes over those of bf16 logits 0.100, wanted <= 0.05",
    ]


def test_the_fixed_cost_is_what_no_bytes_would_take():
    op, rate = "cached_attention", 4.0

    def read(batch, slots, gib, ms, **more):
        shape = f"B{batch} H32 Hkv8 Q1 P{slots} S4096 D128"
        return record(op, shape, op, ms, gib_per_s=gib / (ms / 1e3), **more)

    # 7 microseconds and so many bytes a millisecond
    lanes = [read(b, p, gib, 0.007 + gib / rate) for b, p, gib in ((1, 2, 1 / 32), (1, 8, 1 / 8), (16, 1, 1 / 4))]
    assert kernel_lines(lanes, [op])[-1] == f"no bar: {op}: fixed cost 7.0 us"
    launched = [read(1, 2, 1 / 32, 0.1, **LAUNCHED), *lanes[2:]]
    assert kernel_lines(launched, [op])[-1].endswith(ABSENT[1])


def test_a_run_without_records_of_a_shape_says_so():
    found = kernel_lines([])
    assert all(line.startswith("no figure: ") and line.endswith(ABSENT) for line in found)
    ops = ("calibrated_attention", "cached_attention", "chunk_select", "select_tokens")
    assert {line.split(": ")[1] for line in found} == {*ops}
    assert {line.split(": ")[1] for line in kernel_lines([], ops[:2])} == {*ops[:2]}


def test_the_shapes_of_the_suite_are_those_that_figures_are_read_from():
    from pcbench.harness.kinds.kernel.cells import prepare_kernels
    from pcbench.suites import load_suite

    cells = prepare_kernels(load_suite("kernels", "cuda"), "cuda")
    made = [
        record(p.op, str(p.shape), p.cell.method, 1.0, p.cell.backend, ceiling_ratio=1.0, peak_bytes=1) for p in cells
    ]
    for lane, p in zip(made, cells, strict=True):
        lane.gib_per_s = p.shape.work(2).bytes
    found = kernel_lines(made)
    assert not [line for line in found if line.startswith("no figure")]
    counts = Counter(line.partition(": ")[2].split()[0].strip(":") for line in found)
    assert counts == {"calibrated_attention": 6 * 8 + 2, "select_tokens": 4, "cached_attention": 4, "chunk_select": 2}


MODEL = "random:llama-3-8b"


def prefilled(chunk_tokens, chunks, **more):
    config = {"chunk_tokens": chunk_tokens, "keep": 1, "micro_batch": 1, "evict": None, "calibration": []}
    fields = dict(suite="prefill", kind="prefill", group="g", cell=f"c{chunk_tokens}", model=MODEL, run="r", seed=0)
    fields |= dict(device="cuda", dtype="bfloat16", workload="passkey", method="parallel_comp", backend="cuda")
    fields |= dict(method_config=config, context_tokens=131072, chunks=chunks, ms_p50=4000.0)
    return Record(**fields | more)


def test_prefill_at_128k_is_held_against_its_bar_beside_its_operation_ratio():
    from pcbench.models import model_spec

    model, full = asdict(model_spec(MODEL)), {"baseline": "full/torch/sdpa-cudnn"}
    head = "parallel_comp/cuda 131072 tokens"
    tried = dict(method="full", backend="torch", method_config={}, sdpa_ms={"flash": 13000.0, "cudnn": 12000.0})
    found = prefill_lines(
        [
            prefilled(None, None, **tried),
            prefilled(2048, 64, speedup_vs_full=2.9, **full),
            prefilled(7600, 18, speedup_vs_full=2.7, **full),
            prefilled(7600, None, status="parity_failed", ms_p50=None, reason="wrong"),
        ],
        model,
    )
    # 2·(parameters of the layers)·T + 4·L·H·D·(pairs), by hand
    assert list(found) == [
        "ok: full/torch 131072 tokens passkey, 4000 ms, SDPA-flash 13000 ms, SDPA-cudnn 12000 ms",
        f"ok: {head} passkey, chunks of 2048, 4000 ms, 2.90x full/torch/sdpa-cudnn, operation ratio 3.33x",
        f"ok: {head} passkey, chunks of 7600, 4000 ms, 2.70x full/torch/sdpa-cudnn, operation ratio 3.05x",
        f"NOT MET: {head}, chunks of 7600: full over it 2.700, wanted >= 2.8",
        f"parity_failed: {head} passkey, chunks of 7600, operation ratio 3.05x: wrong",
        f"no figure: {head}, chunks of 7600: full over it",
    ]
    # one chunk more than its size says, because the question needs room
    assert operation_ratio(prefilled(8192, 17), model) > operation_ratio(prefilled(8192, 16), model)


def test_figures_of_an_older_run_name_speed_and_stages_and_no_operation_ratio():
    run = ROOT / "reports/examples/prefill_xeon2c_202611"
    done = subprocess.run([sys.executable, ROOT / "tools/gpu_figures.py", run], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line = next(x for x in done.stdout.splitlines() if "parallel_comp/cpu 8192" in x)
    for part in ("ok: ", "chunks of 2048", "parity ", " ms, ", "x full/torch/sdpa-", "selection ", "query "):
        assert part in line
    assert "operation ratio" not in line
