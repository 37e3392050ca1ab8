"""A run whose method shares every prompt over two real ranks."""

import os
import shlex
import signal
from functools import partial

import pytest
from forked import forked, torchrun
from harness_suite import SUITE
from stopped import stopped

from pcbench.errors import ConfigError, RankLost
from pcbench.harness.processes import followers
from pcbench.harness.runner import Options, plan, run
from pcbench.records import RunFolder, read_records

SHARED = SUITE.replace("keep = 1", 'keep = 1\nranks = "chunks"')
PCBENCH = ("-m", "pcbench")
# one thread a rank
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def ranks_of(tmp_path, number):
    """Runs the program on so many ranks, without torchrun."""
    return partial(forked, place=tmp_path, ranks=number, environment=ENVIRONMENT)


def test_two_ranks_measure_one_run(tmp_path, options, console, one_thread):
    unshared, _ = run(options(), console)
    (tmp_path / "small.toml").write_text(SHARED)
    out = tmp_path / "shared"
    words = ["run", "--suite", str(tmp_path / "small.toml"), "--device", "cpu", "--out", str(out)]
    done = ranks_of(tmp_path, 2)([*PCBENCH, *words])
    assert done.returncode == 0, done.stderr
    records = {(r.workload, r.context_tokens, r.method, r.backend): r for r in read_records(out)}
    assert {r.status for r in records.values()} == {"ok"}
    assert len(records) == len(read_records(unshared.path))
    ours = [r for r in records.values() if r.method != "full"]
    assert {r.method_config["ranks"] for r in ours} == {"chunks"}
    assert all("exchange" in r.stages_ms for r in ours if r.ms_p50)
    timed = [r for r in records.values() if r.workload == "passkey"]
    for record in timed:
        said = "peak memory: not measured, it is taken on one rank and 2 share every prompt"
        alone = record.method == "full"
        assert (record.peak_bytes is not None, record.phase_bytes is not None) == (alone, alone)
        assert (said in record.warnings) is not alone
    assert {tuple(shlex.split(r.repro_command)[:4]) for r in records.values()} == {
        ("torchrun", "--nproc-per-node=2", "--no-python", "pcbench")
    }
    assert RunFolder(out).manifest["environment"]["ranks"] == 2
    cells = {r.cell: r.backend for folder in (out, unshared.path) for r in read_records(folder)}

    def answers(folder):
        return {(cells[s.cell], s.id): (s.prediction, s.kept_chunks) for s in folder.samples.read()}

    assert answers(RunFolder(out)) == answers(unshared)


def test_shared_prompts_are_refused_where_ranks_have_prompts_of_their_own(tmp_path, monkeypatch):
    (tmp_path / "small.toml").write_text(SHARED)
    options = Options(suite=str(tmp_path / "small.toml"), device="cpu", isolate=True)
    cells = plan(options).cells
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match='"one" in a child of --isolate, got "chunks"'):
        plan(options)
    with pytest.raises(ConfigError, match='"one" in a suite whose ranks take prompts of their own'):
        followers.check_shared(cells, by_prompt=True, isolate=False)
    followers.check_shared(cells, by_prompt=False, isolate=False)


def test_a_lost_rank_ends_the_run_and_keeps_what_was_finished(broken, options, console):
    broken("lost", above=500)
    with pytest.raises(
        RankLost, match=r"run: every rank until the end.*what was finished is in .*, go on with: .*--resume"
    ):
        run(options(), console)
    records = read_records(options().out)
    assert {(r.context_tokens, r.status) for r in records if r.method != "broken"} == {(300, "ok")}


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_rank_ends_the_run_with_one_line_and_it_resumes(killed, tmp_path):
    (tmp_path / "small.toml").write_text(SHARED)
    out = tmp_path / "run"
    words = ["run", "--suite", str(tmp_path / "small.toml"), "--device", "cpu", "--out", str(out)]
    program = stopped(signal.SIGKILL, out / "records.jsonl", 1, rank=killed)
    start = partial(torchrun, environment=ENVIRONMENT) if killed else ranks_of(tmp_path, 2)
    lost = start([*program, *words])
    assert lost.returncode == 1
    told = [line for line in lost.stderr.splitlines() if "every rank until the end" in line]
    assert len(told) == 1
    assert f"what was finished is in {out}, go on with: torchrun --nproc-per-node=2 --no-python pcbench" in told[0]
    assert "Traceback" not in lost.stderr.partition(told[0])[0]
    assert "terminate called" not in lost.stderr
    before = read_records(out)
    assert len(before) == 3
    if killed == 0:
        return
    alone = ranks_of(tmp_path, 1)([*PCBENCH, *words, "--resume"])
    assert alone.returncode == 2
    assert f"--resume: as many ranks as began {out} (2), got 1" in alone.stderr.splitlines()[-1]
    assert "Traceback" not in alone.stderr
    assert read_records(out) == before
    done = ranks_of(tmp_path, 2)([*PCBENCH, *words, "--resume"])
    assert done.returncode == 0, done.stderr
    assert read_records(out)[:3] == before
    assert [r.cell for r in read_records(out)] == RunFolder(out).manifest["cells"]
    assert {r.status for r in read_records(out)} == {"ok"}
