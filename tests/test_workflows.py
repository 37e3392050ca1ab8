"""The workflows are YAML whose actions are pinned and whose commands exist."""

import itertools
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer.main
import yaml

from pcbench.cli import app
from pcbench.report.compare.comparison import read_margin
from pcbench.suites import load_suite

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".github" / "workflows"
# YAML 1.1 reads the key `on` as true
WORKFLOWS = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.iterdir())}
JOBS = [(name, job) for name, workflow in WORKFLOWS.items() for job in workflow["jobs"]]
PINNED = re.compile(r"[\w-]+(/[\w-]+)+@[0-9a-f]{40}")


def steps(name, job):
    return WORKFLOWS[name]["jobs"][job]["steps"]


def commands():
    """Every line of every `run`, with each value of the matrix."""
    for name, job in JOBS:
        matrix = WORKFLOWS[name]["jobs"][job].get("strategy", {}).get("matrix", {})
        for values in itertools.product(*matrix.values()):
            for step in steps(name, job):
                text = step.get("run", "").replace("\\\n", " ")
                for key, value in zip(matrix, values, strict=True):
                    text = text.replace(f"${{{{ matrix.{key} }}}}", value)
                lines = (line.strip().replace('"$PYTHON" -m ', "") for line in text.splitlines())
                yield from filter(None, lines)


COMMANDS = list(dict.fromkeys(commands()))


def of(program):
    return [shlex.split(line)[1:] for line in COMMANDS if Path(shlex.split(line)[0]).name == program]


def test_there_are_workflows_for_cpus_and_for_both_gpus():
    assert sorted(WORKFLOWS) == ["cpu.yml", "gpu.yml", "release.yml"]
    labels = [tuple(WORKFLOWS["gpu.yml"]["jobs"][job]["runs-on"]) for job in ("nvidia", "amd")]
    assert labels == [("self-hosted", "linux", "x64", f"pcbench-{vendor}") for vendor in ("nvidia", "amd")]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_action_is_pinned_to_a_commit_that_names_its_version(name):
    uses = re.findall(r"uses: (\S+)(.*)", (FOLDER / name).read_text(encoding="utf-8"))
    assert uses
    assert [action for action, comment in uses if not PINNED.fullmatch(action) or " # v" not in comment] == []


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_every_job_has_a_time_limit_and_few_rights(name, job):
    workflow = WORKFLOWS[name]
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["jobs"][job]["timeout-minutes"] <= 60
    for step in steps(name, job):
        assert ("run" in step) != ("uses" in step)


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_code_that_was_checked_out_reaches_no_token(name, job):
    """A token that may write belongs to a job that checks nothing out, and no checkout leaves one behind."""
    checkouts = [step for step in steps(name, job) if step.get("uses", "").startswith("actions/checkout@")]
    assert [step for step in checkouts if step.get("with", {}).get("persist-credentials") is not False] == []
    rights = WORKFLOWS[name]["jobs"][job].get("permissions", {})
    assert not checkouts or "write" not in rights.values()


def test_the_comment_is_what_the_regression_job_left():
    jobs = WORKFLOWS["cpu.yml"]["jobs"]
    uploaded = jobs["regression"]["steps"][-1]["with"]
    assert (uploaded["path"], jobs["regression"]["env"]["OUT"]) == ("out", "${{ github.workspace }}/out")
    (command,) = (line for line in COMMANDS if line.startswith("gh run download") and "--name regression" in line)
    assert f"--name {uploaded['name']} --dir out" in command
    assert jobs["comment"]["needs"] == "regression"


def test_no_pull_request_reaches_a_machine_of_ours():
    for name, job in JOBS:
        if "self-hosted" in WORKFLOWS[name]["jobs"][job]["runs-on"]:
            assert "pull_request" not in WORKFLOWS[name][True]


def test_every_command_is_one_that_is_checked_here():
    known = {"make", "pcbench", "gpu_check.sh", "mkdir", "cat", "tar", "gh", "python"}
    assert {Path(shlex.split(line)[0]).name for line in COMMANDS} == known


@pytest.mark.parametrize("words", of("make"), ids=" ".join)
def test_make_targets_and_variables_exist(words):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    variables = [word.split("=")[0] for word in words if "=" in word]
    assert [name for name in variables if f"$({name})" not in makefile] == []
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in variables:
        assert f"--{name.lower()} " in done.stdout


@pytest.mark.parametrize("words", of("pcbench"), ids=" ".join)
def test_pcbench_commands_parse(words):
    group = typer.main.get_command(app)
    context = group.make_context("pcbench", list(words))
    name, command, rest = group.resolve_command(context, list(words))
    given = command.make_context(name, rest, parent=context).params
    if name == "run":
        load_suite(given["suite"], given["device"], preset=given["preset"], sets=given["set_"])
    if name == "compare":
        assert len(given["runs"]) >= 2
        read_margin(given["fail_on"])


@pytest.mark.parametrize("words", ["run --sweet kernels", "compar a b", "compare a b --fail 5%"])
def test_pcbench_commands_that_do_not_exist_do_not_parse(words):
    with pytest.raises(Exception, match="No such"):
        test_pcbench_commands_parse(words.split())


@pytest.mark.parametrize("words", of("gpu_check.sh"), ids=" ".join)
def test_parts_of_the_gpu_check_exist(words):
    script = ROOT / "tools" / "gpu_check.sh"
    parts = re.search(r"\[--only ([\w|]+)\]", script.read_text(encoding="utf-8"))[1].split("|")
    assert words[:2] == ["reports/runs", "--only"]
    assert words[2] in parts


@pytest.mark.parametrize("job", ["nvidia", "amd"])
def test_a_gpu_is_held_against_the_base_of_its_own_runner(job):
    own = steps("gpu.yml", job)
    names = [step.get("uses", step.get("run", "")).split("@")[0] for step in own]
    restore, save = (own[names.index(f"actions/cache/{what}")] for what in ("restore", "save"))
    # a cache is found by its path, too
    assert restore["with"]["path"] == save["with"]["path"] == "reports/runs/base"
    assert restore["with"]["key"] == save["with"]["key"] == restore["with"]["restore-keys"] + "${{ github.run_id }}"
    assert restore["with"]["restore-keys"] == f"{job}-${{{{ runner.name }}}}-${{{{ matrix.part }}}}-"
    (compared,) = (step for step in own if "pcbench compare" in step.get("run", ""))
    assert compared["if"] == f"steps.{restore['id']}.outputs.cache-matched-key"
    places = ("reports/runs/base/${{ matrix.part }}", "reports/runs/now/${{ matrix.part }}")
    assert " ".join(["pcbench compare", *places, "--fail-on"]) in compared["run"]
    (made,) = (step for step in own if step.get("id") == "new")
    assert f"!steps.{restore['id']}.outputs.cache-matched-key" in made["if"]
    assert save["if"] == "steps.new.outcome == 'success'"
    assert own.index(restore) < own.index(compared) < own.index(made) < own.index(save)


@pytest.mark.parametrize("part", ["attention", "kernels", "prefill", "prefill_long"])
def test_the_archive_of_a_part_unpacks_to_its_run(part, tmp_path):
    """As gpu_check.sh packs it and gpu.yml unpacks it."""
    packs = re.search(r"^ *tar -czf (\S+) -C \S+ (\S+)$", (ROOT / "tools" / "gpu_check.sh").read_text(), re.M)
    assert packs.groups() == ('"$folder/gpu_check_$name.tar.gz"', '"gpu_check_$name"')
    (tmp_path / f"gpu_check_{part}" / part).mkdir(parents=True)
    (tmp_path / f"gpu_check_{part}" / part / "manifest.json").write_text("{}")
    (tmp_path / "reports" / "runs").mkdir(parents=True)
    archive = f"reports/runs/gpu_check_{part}.tar.gz"
    subprocess.run(["tar", "-czf", archive, f"gpu_check_{part}"], cwd=tmp_path, check=True)
    for words in (words for words in of("tar") if archive in words):
        (tmp_path / words[words.index("-C") + 1]).mkdir()
        subprocess.run(["tar", *words], cwd=tmp_path, check=True)
    for folder in ("base", "now"):
        assert (tmp_path / "reports" / "runs" / folder / part / "manifest.json").exists()


def test_python_commands_are_files_of_ours_or_modules_that_were_installed():
    modules = set()
    for words in of("python"):
        if words[:2] == ["-m", "pip"]:
            assert words[2] == "install"
            pinned = [word.split("==") for word in words[3:]]
            assert all(len(pair) == 2 for pair in pinned)
            modules |= {name for name, _ in pinned}
        elif words[0] == "-m":
            assert words[1] in modules
        else:
            assert (ROOT / words[0]).is_file()


def test_a_release_holds_what_its_jobs_left_and_no_more():
    jobs = WORKFLOWS["release.yml"]["jobs"]
    left = {
        step["with"]["name"]
        for job in ("sdist", "wheels")
        for step in jobs[job]["steps"]
        if "upload-artifact" in step.get("uses", "")
    }
    (made,) = (words for words in of("gh") if words[:2] == ["release", "create"])
    assert {word.split("/")[1] for word in made if word.startswith("out/")} == left
    assert jobs["release"]["needs"] == ["sdist", "wheels"]
    # nothing is released of a branch
    assert jobs["release"]["if"] == "github.ref_type == 'tag'"
    assert WORKFLOWS["release.yml"][True]["push"] == {"tags": ["v*"]}
