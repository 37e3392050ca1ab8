"""A run whose method shares every prompt over two real ranks of torchrun."""

import subprocess
import sys

import pytest
from harness_suite import SUITE

from pcbench.errors import ConfigError
from pcbench.harness import followers
from pcbench.harness.runner import Options, plan
from pcbench.records import RunFolder, read_records

SHARED = SUITE.replace("keep = 1", 'keep = 1\nranks = "chunks"')
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--no-python", sys.executable]


def test_two_ranks_measure_one_run(tmp_path, finished):
    (tmp_path / "small.toml").write_text(SHARED)
    command = ["-m", "pcbench", "run", "--suite", str(tmp_path / "small.toml"), "--device", "cpu"]
    out = tmp_path / "shared"
    done = subprocess.run([*TORCHRUN, *command, "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    records = {(r.workload, r.context_tokens, r.method, r.backend): r for r in read_records(out)}
    assert {r.status for r in records.values()} == {"ok"}
    assert len(records) == len(read_records(finished.path))
    ours = [r for r in records.values() if r.method != "full"]
    assert {r.method_config["ranks"] for r in ours} == {"chunks"}
    assert all("exchange" in r.stages_ms for r in ours if r.ms_p50)
    cells = {r.cell: r.backend for folder in (out, finished.path) for r in read_records(folder)}

    def answers(folder):
        return {(cells[s.cell], s.id): (s.prediction, s.kept_chunks) for s in folder.samples.read()}

    assert answers(RunFolder(out)) == answers(finished)


def test_shared_prompts_are_refused_where_ranks_have_prompts_of_their_own(tmp_path, monkeypatch):
    (tmp_path / "small.toml").write_text(SHARED)
    options = Options(suite=str(tmp_path / "small.toml"), device="cpu", isolate=True)
    cells = plan(options).cells
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match='"one" in a child of --isolate, got "chunks"'):
        plan(options)
    with pytest.raises(ConfigError, match='"one" in an accuracy suite, whose ranks take prompts of their own'):
        followers.check_shared(cells, accuracy=True, isolate=False)
    followers.check_shared(cells, accuracy=False, isolate=False)
