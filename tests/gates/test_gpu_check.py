"""tools/gpu_check.sh with a Python that only notes what it is asked to run."""

import os
import re
import shlex
import subprocess
import tarfile
import time

import pytest
from builds import ROOT

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
