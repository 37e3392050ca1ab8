"""Of a sweep over two lengths the first group goes wrong, each time in another way; the second must not notice."""

import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from pcbench.errors import ConfigError, DataMissing
from pcbench.harness.kinds.methods.session import Measured
from pcbench.harness.processes import isolation
from pcbench.harness.processes.isolation import measure_in_child
from pcbench.harness.runner import plan, run

SWEEP = {"sets": ["suite.context_tokens=[600, 300]", "suite.workloads=['passkey']"], "limit": 1, "isolate": True}


@pytest.fixture
def sweep(broken, options, console, monkeypatch):
    """Runs the sweep with a method that goes wrong at 600 tokens and is refused at 300; the system counts no kills."""
    monkeypatch.setattr(isolation, "memory_kills", lambda: 0)

    def start(how, **changes):
        broken(how, above=500)
        folder, records = run(options(**(SWEEP | {"methods": ["full", "broken"]} | changes)), console)
        assert [r.context_tokens for r in records] == [600, 600, 300, 300]
        assert [(r.method, r.status) for r in records[2:]] == [("full", "ok"), ("broken", "unsupported")]
        return folder, records[:2]

    return start


def test_isolation_measures_as_without(options, console):
    _, records = run(options(limit=1, isolate=True, sets=["suite.context_tokens=[300]"]), console)
    assert {r.status for r in records} == {"ok"}
    assert len(records) == 6


def test_a_real_allocation_limit_ends_its_cell_alone(sweep):
    _, (full, limited) = sweep("limit")
    assert (full.status, limited.status) == ("ok", "out_of_memory")
    assert "you tried to allocate 268435456 bytes" in limited.reason


def test_a_group_that_is_killed_is_an_error(sweep):
    _, records = sweep("killed")
    assert {(r.status, r.reason) for r in records} == {("error", "the group's process ended with signal SIGKILL")}


def test_a_group_killed_by_a_system_without_memory_is_out_of_memory(sweep, monkeypatch):
    counts = iter([3, 4, 4])
    monkeypatch.setattr(isolation, "memory_kills", lambda: next(counts))
    _, records = sweep("killed")
    assert {r.status for r in records} == {"out_of_memory"}
    assert {r.reason for r in records} == {"the group's process was killed by the system, which had no more memory"}


def test_resume_measures_a_killed_group_again_and_keeps_the_rest(sweep, options, console):
    folder, _ = sweep("killed")
    kept = folder.records.path.read_text().splitlines()[2:]
    again = options(**(SWEEP | {"methods": ["full", "broken"], "resume": True}))
    _, records = run(again, console)
    # the file is in the suite's order
    assert folder.records.path.read_text().splitlines()[2:] == kept
    assert [(r.context_tokens, r.status) for r in records[:2]] == [(600, "error")] * 2


class Impatient:
    """Starts children as they are; the time of the first is up as soon as it hangs."""

    def __init__(self, pid_file):
        self.pid_file, self.asked, self.started = pid_file, [], isolation.started

    @contextmanager
    def __call__(self, *what):
        with self.started(*what) as (child, receive):
            self.receive, self.recv = receive, receive.recv
            yield child, self

    def poll(self, timeout_s):
        self.asked.append(timeout_s)
        if len(self.asked) > 1:
            return self.receive.poll(None)
        wait_for(lambda: self.pid_file.exists() and self.pid_file.read_text())
        return self.receive.poll(0.01)


def wait_for(what):
    deadline = time.monotonic() + 600
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def has_ended(pid):
    try:
        return Path("/proc", str(pid), "stat").read_text().split()[2] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_group_that_hangs_is_a_timeout_and_leaves_no_process(sweep, monkeypatch, tmp_path):
    impatient = Impatient(tmp_path / "pid")
    monkeypatch.setattr(isolation, "started", impatient)
    _, records = sweep("hangs", sets=[*SWEEP["sets"], "suite.timeout_s=2.5"])
    assert impatient.asked == [2.5, 2.5]
    assert {(r.status, r.reason) for r in records} == {("timeout", "the group took longer than 2.5 s")}
    # what the group's process had started
    wait_for(lambda: has_ended((tmp_path / "pid").read_text()))


# the real command line with a method that hangs
HANGING = """
import sys
from pcbench import registry
from pcbench.cli import main
registry.METHODS["broken"] = "tiny:Broken"
main(sys.argv[1:])
"""


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_killed_leaves_no_process(sent, broken, suite_file, tmp_path):
    broken("hangs")
    words = ["run", "--suite", str(suite_file), "--device", "cpu", "--isolate", "--method", "broken"]
    places = {"cwd": Path(__file__).parents[1], "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", HANGING, *words, "--out", str(tmp_path / "run")], **places) as run:
        try:
            wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
            begun = psutil.Process(int((tmp_path / "pid").read_text()))
            measuring = begun.parent()
            assert measuring.pid != run.pid
            run.send_signal(sent)
            run.wait(600)
        finally:
            run.kill()
    wait_for(lambda: has_ended(measuring.pid) and has_ended(begun.pid))


def test_the_time_is_really_up(broken, options, console):
    broken("hangs")
    sets = ["suite.context_tokens=[300]", "suite.workloads=['passkey']", "suite.timeout_s=0.01"]
    _, records = run(options(methods=["broken"], sets=sets, isolate=True), console)
    assert [r.status for r in records] == ["timeout"]


def test_a_timeout_without_isolation_is_refused(options):
    with pytest.raises(ConfigError, match=r"small.toml: suite.timeout_s: --isolate, got none"):
        plan(options(sets=["suite.timeout_s=5"]))


class Raising:
    """A session whose groups raise in the child."""

    def __init__(self, error):
        self.error = error

    def fresh(self):
        return self

    def measure(self, cells, repro, say):
        raise self.error

    def lost(self, cells, repro, status, reason):
        return Measured([(status, reason)], [])


def test_what_nobody_expected_in_a_child_is_an_error_with_its_trace(options):
    cells = plan(options()).groups()[0]
    found = measure_in_child(Raising(RuntimeError("first\nsecond")), cells, "", str)
    assert found.records == [("error", "RuntimeError: first")]
    assert "in measure" in found.traces[cells[0].cell.key]


def test_what_would_end_the_run_ends_it_in_a_child_too(options):
    with pytest.raises(DataMissing, match="no model"):
        measure_in_child(Raising(DataMissing("no model")), plan(options()).groups()[0], "", str)
