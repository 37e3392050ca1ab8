"""Scripts of clusters in docs/ start what they should, on a machine without a scheduler."""

import os
import re
import subprocess

import pytest
import typer.main
from documentation import PAGES

from pcbench.cli import app

SCRIPTS = [text for page in PAGES for text in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.S)]
# programs that print what they are asked to start, and what a job knows
STUBS = {"srun": 'printf "%s\\n" "$@"', "scontrol": "echo node1; echo node2"}
JOB = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7"}


@pytest.fixture
def started(tmp_path):
    """What `srun` in a script is asked to start, and what `pcbench run` makes of its arguments."""
    for name, line in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    environment = os.environ | JOB | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def start(script):
        done = subprocess.run(
            ["bash", "-euc", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        words = done.stdout.splitlines()
        run = typer.main.get_command(app).commands["run"]
        return words, run.make_context("run", words[words.index("pcbench") + 2 :]).params

    return start


def test_an_array_starts_every_shard_in_its_folder_and_resumes_it(started, tmp_path):
    array = next(script for script in SCRIPTS if "--array" in script)
    words, asked = started(array)
    assert (words[:2], asked["shard"], asked["resume"]) == (["pcbench", "run"], "3/4", False)
    folder = tmp_path / asked["folder"]
    assert folder.name == "longbench-3"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    assert started(array)[1]["resume"]


def test_nodes_meet_at_the_first_of_them(started):
    words, asked = started(next(script for script in SCRIPTS if "--nodes" in script))
    assert words[0] == "torchrun"
    assert {"--nnodes=2", "--rdzv-endpoint=node1:29400", "--no-python"} < set(words)
    assert str(asked["folder"]) == "runs/longbench"


def test_every_script_is_one_of_these():
    assert len(SCRIPTS) == 2
