"""tools/gpu_check.sh with a Python that only notes what it is asked to run, and the figures that it reads."""

import os
import re
import shlex
import subprocess
import sys
import tarfile
import time
from collections import Counter

import pytest
from builds import ROOT
from gpu_figures import kernel_lines

from pcbench.types import Record

PARTS = ("parity", "sanitizer", "kernels", "prefill", "prefill_long")
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
    "parity": ["-m pcbench check --device cuda", "tests/ops/test_determinism.py"],
    "sanitizer": ["tools/small_calls.py"] * 3,
    "kernels": ["-m pcbench run --suite kernels --device cuda --out", "tools/gpu_figures.py"],
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


def test_without_a_choice_every_part_runs(check, tmp_path):
    status, said, _ = check()
    assert status == 0, said
    assert sorted(path.name for path in (tmp_path / "out").glob("*.txt")) == sorted(f"gpu_check_{p}.txt" for p in PARTS)


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
    assert said.startswith("usage: tools/gpu_check.sh DIR [--only parity|sanitizer|kernels|prefill|prefill_long]")


def record(op, shape, method, ms, backend="cuda", **more):
    fields = dict(suite="kernels", kind="kernel", group="g", cell=f"{op}{shape}{method}", model="", method_config={})
    fields |= dict(run="r", device="cuda", dtype="bfloat16", seed=0, workload=op, status="ok", ms_p50=ms)
    return Record(op=op, shape=shape, method=method, backend=backend, **fields | more)


ATTENTION = "B1 H32 Hkv8 Q4096 S4096 D128 causal"
LAUNCHED = {"warnings": ["timed with its launches, no graph: it waits"]}


def lines_of(*records):
    return [line for line in kernel_lines(list(records)) if not line.endswith("no record of this shape")]


@pytest.mark.parametrize(("ms", "word"), [(1.0, "met"), (1.3, "NOT MET")])
def test_a_figure_is_held_against_what_is_wanted(ms, word):
    op = "calibrated_attention"
    found = lines_of(record(op, ATTENTION, op, ms), record(op, ATTENTION, "sdpa-flash", 1.2, "torch"))
    assert found == [f"{word}: {op} {ATTENTION}: SDPA-flash over it {1.2 / ms:.3f}, wanted >= 1"]


@pytest.mark.parametrize("sides", [(LAUNCHED, {}), ({}, LAUNCHED), (LAUNCHED, LAUNCHED)])
def test_lanes_that_were_timed_with_their_launches_give_no_figure(sides):
    op = "calibrated_attention"
    ours, theirs = sides
    found = lines_of(
        record(op, ATTENTION, op, 1.0, **ours), record(op, ATTENTION, "sdpa-flash", 1.2, "torch", **theirs)
    )
    assert found == [f"no figure: {op} {ATTENTION}: SDPA-flash over it"]


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
    assert lines_of(record(op, ATTENTION, op, 1.0), theirs) == [f"no figure: {op} {ATTENTION}: SDPA-flash over it"]


def test_bytes_and_bandwidth_are_read():
    cached, chunks = "B1 H32 Hkv8 Q1 P2 S4096 D128", "X1080 E4096 V128256 M36 K3"
    found = lines_of(
        record("cached_attention", cached, "cached_attention", 1.0, ceiling_ratio=0.9),
        record("chunk_select", chunks, "chunk_select", 1.1, peak_bytes=1080 * 128256 // 5),
        record("chunk_select", chunks, "floor-gemm", 1.0, "torch"),
    )
    assert found == [
        f"met: cached_attention {cached}: share of the copy bandwidth 0.900, wanted >= 0.85",
        f"met: chunk_select {chunks}: it over the bare GEMM 1.100, wanted <= 1.2",
        f"NOT MET: chunk_select {chunks}: bytes over those of bf16 logits 0.100, wanted <= 0.05",
    ]


def test_a_run_without_records_of_a_shape_says_so():
    assert len(list(kernel_lines([]))) == 7


def test_the_shapes_of_the_suite_are_those_that_figures_are_read_from():
    from pcbench.harness.kinds.kernel.cells import prepare_kernels
    from pcbench.suites import load_suite

    cells = prepare_kernels(load_suite("kernels", "cuda"), "cuda")
    made = [
        record(p.op, str(p.shape), p.cell.method, 1.0, p.cell.backend, ceiling_ratio=1.0, peak_bytes=1) for p in cells
    ]
    found = list(kernel_lines(made))
    assert not [line for line in found if line.startswith("no figure")]
    counts = Counter(line.partition(": ")[2].split()[0] for line in found)
    assert counts == {"calibrated_attention": 8, "select_tokens": 4, "cached_attention": 3, "chunk_select": 2}


def test_figures_of_a_prefill_name_speed_stages_and_the_flop_bound():
    run = ROOT / "reports/examples/prefill_xeon2c_202611"
    done = subprocess.run([sys.executable, ROOT / "tools/gpu_figures.py", run], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line = next(x for x in done.stdout.splitlines() if "parallel_comp/cpu 8192" in x)
    for part in ("ok: ", "parity ", " ms, ", "x full", "FLOP bound ", "chunks ", "selection ", "query "):
        assert part in line
