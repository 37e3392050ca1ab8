"""Signals at any moment and however often: one line, exit 130 or 143, and files that are whole."""

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
from harness_suite import ACCURACY

from pcbench.records import RunFolder

BEGIN = """
import ctypes, os, signal
from pcbench.system import interrupts
interrupts.PATIENCE_S = 0.2
interrupts.guard()
"""
# in place of what a library may do with it
SWALLOW = """
try:
    os.kill(os.getpid(), SENT)
    signal.pause()
except BaseException:
    pass
signal.pause()
"""


def foreground():
    """A shell's background job ignores SIGINT, and so would the program."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def indented(text):
    return "".join(f"    {line}\n" for line in text.splitlines())


@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("tidy", [False, True])
def test_an_interruption_that_is_swallowed_ends_the_program(sent, code, tidy):
    body = SWALLOW.replace("SENT", f"signal.{sent}")
    body = f"with interrupts.tidily():\n{indented(body)}" if tidy else body
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + body], capture_output=True, text=True, timeout=60, preexec_fn=foreground
    )
    assert (done.returncode, done.stderr) == (code, "pcbench: interrupted\n")


def test_a_call_that_does_not_return_ends_with_the_program():
    script = BEGIN + "lock = ctypes.create_string_buffer(64)\nhold = ctypes.CDLL(None).pthread_mutex_lock\n"
    script += "hold(lock)\nprint('held', flush=True)\nwith interrupts.tidily():\n    hold(lock)\n"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=-1, stderr=-1, text=True, preexec_fn=foreground
    ) as process:
        assert process.stdout.readline() == "held\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[1] == "pcbench: interrupted\n"
    assert process.returncode == 130


def test_what_was_begun_is_tidied_up_once():
    body = "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    signal.pause()\nfinally:\n"
    body += "    os.kill(os.getpid(), signal.SIGINT)\n    os.write(1, b'tidied')\n"
    script = f"{BEGIN}with interrupts.tidily():\n{indented(body)}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, preexec_fn=foreground)
    assert done.stdout == "tidied"
    assert done.stderr.splitlines()[-1].endswith("Interrupted: pcbench: interrupted")


def test_an_ignored_signal_stays_ignored():
    script = f"{BEGIN}os.kill(os.getpid(), signal.SIGINT)\nprint('on')"
    ignoring = lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)  # noqa: E731
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, preexec_fn=ignoring)
    assert (done.returncode, done.stdout) == (0, "on\n")


@pytest.mark.parametrize("delay", [0.15, 0.4, 1.0])
def test_ctrl_c_while_the_program_is_loaded(delay, tmp_path):
    process = begun(tmp_path)
    time.sleep(delay)
    assert interrupted(process, 1)[:2] == (130, ["pcbench: interrupted"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("isolate", [[], pytest.param(["--isolate"], marks=pytest.mark.slow)])
def test_five_times_ctrl_c_in_a_run_is_one_line_and_its_files_are_whole(tmp_path, isolate):
    process, folder = begun(tmp_path, *isolate), RunFolder(tmp_path / "run")
    while not (folder.samples.path.exists() and folder.samples.read()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    code, lines, children = interrupted(process, 5)
    assert code == 130
    # how long it takes comes before, and whether the machine is busy
    said = [line for line in lines if not re.match(r"\d+ cells, about |this machine is busy", line)]
    assert [line.split(",")[0] for line in said] == ["run: interrupted"]
    assert said[0].endswith("--resume")
    assert folder.path.joinpath("samples.jsonl").read_bytes().endswith(b"\n")
    assert {sample.task for sample in folder.samples.read()} <= {"passkey@1", "kv_retrieval@1"}
    assert {path.name for path in folder.path.iterdir()} <= {"manifest.json", "records.jsonl", "samples.jsonl"}
    assert psutil.wait_procs(children, timeout=60)[1] == []


def begun(tmp_path, *more):
    """A run of many prompts, in a group of its own, as in a terminal's foreground."""
    path = tmp_path / "small.toml"
    path.write_text(ACCURACY.replace("prompts = 3", "prompts = 500"))
    words = [sys.executable, "-m", "pcbench", "run", "--suite", path, "--device", "cpu", "--out", tmp_path / "run"]
    quiet = os.environ | {"PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        [*words, *more], stdout=-1, stderr=-1, text=True, env=quiet, start_new_session=True, preexec_fn=foreground
    )


def interrupted(process, times):
    """Sends a terminal's Ctrl-C so often; exit code, lines on stderr, and the processes that there were below."""
    children = psutil.Process(process.pid).children(recursive=True)
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.005)
    _, said = process.communicate(timeout=120)
    return process.returncode, said.splitlines(), children
