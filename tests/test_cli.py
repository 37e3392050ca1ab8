import json
import os
import re
import shlex
import signal
import subprocess
import sys
from importlib.metadata import version

import pytest
from forked import forked
from stopped import stopped

from pcbench import registry
from pcbench.cli import main
from pcbench.records import RunFolder
from pcbench.suites import suite_names, suite_summaries

# of one word
TOKENIZER = json.dumps(
    {"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}}
)


def pcbench(*arguments, env=None):
    words = [sys.executable, "-m", "pcbench", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, env=env)


@pytest.fixture
def refused(capsys):
    """Runs arguments that exit with 2 and one line on stderr; returns that line."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        printed = capsys.readouterr()
        assert ended.value.code == 2, printed.err
        assert printed.out == ""
        assert len(printed.err.strip().splitlines()) == 1, printed.err
        return printed.err.strip()

    return run


@pytest.mark.parametrize("words", [[], ["data"]])
def test_a_command_that_is_missing_is_help_and_exit_2(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    usage, *rest = capsys.readouterr().err.splitlines()
    assert usage == f"Usage: {' '.join(['pcbench', *words])} [OPTIONS] COMMAND [ARGS]..."
    assert "Commands:" in rest


@pytest.mark.parametrize("words", [["-h"], ["run", "-h"], ["data", "fetch", "-h"]])
def test_help_is_asked_for_by_one_letter_too(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(f"Usage: {' '.join(['pcbench', *words[:-1]])} [")


def test_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert not ended.value.code
    assert capsys.readouterr().out == f"pcbench {version('pcbench')}\n"


def test_a_run_without_a_suite_lists_them_and_says_what_to_type(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["run", "--device", "cpu"])
    listed, said = capsys.readouterr()
    assert ended.value.code == 2
    assert said == (
        "run: --suite and a name of this list, got no --suite; begin with: pcbench run --suite prefill --dry-run\n"
    )
    lines = [line.split(maxsplit=1) for line in listed.splitlines()]
    assert [name for name, _ in lines] == suite_names()
    for name, question in lines:
        assert suite_summaries()[name].startswith(question.strip())
        assert question.strip().endswith("?")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("run --suite pre", {"prefill"}),
        ("check --op chunk_", {"chunk_select", "chunk_topk"}),
        ("dat", {"data"}),
    ],
)
def test_shells_complete_commands_and_names(typed, offered):
    """bash by its own script, zsh and fish by what theirs ask."""
    asked = {"_TYPER_COMPLETE_ARGS": f"pcbench {typed}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    found = {
        shell: pcbench(env=os.environ | asked | {"_PCBENCH_COMPLETE": f"complete_{shell}"}).stdout
        for shell in ("zsh", "fish")
    }
    assert {line.partition("\t")[0] for line in found["fish"].splitlines()} == offered
    assert set(re.findall(r'"(\w+)"(?::"|$|\))', found["zsh"], re.M)) == offered
    program = f"""
        pcbench() {{ {shlex.quote(sys.executable)} -m pcbench; }}
        env() {{ local -x "${{@:1:3}}"; "${{@:4}}"; }}
        source <(_PCBENCH_COMPLETE=source_bash pcbench)
        COMP_WORDS=(pcbench {typed}) COMP_CWORD={len(typed.split())}
        _pcbench_completion pcbench
        printf '%s\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert set(done.stdout.split()) == offered, done.stderr


def test_a_list_is_short_and_one_of_its_lists_long(capsys):
    for words in (["list"], ["list", "tasks"]):
        with pytest.raises(SystemExit):
            main(words)
    short, long = capsys.readouterr().out.split("pcbench list suites|methods|models|tasks|scorers|ops\n")
    assert f"methods  {len(registry.METHODS)}" in short
    assert "longbench/… (21)" in short
    assert "longbench/qasper" not in short
    names = " ".join(short.split())
    assert re.search(r" ruler_… \(\d\d\),", names)
    assert "ruler_vt" not in names
    # two names of a family stand as they are
    assert "uncomp, uncomp_stage" in names
    assert "longbench/qasper" in long


def test_list_names_everything():
    listed = json.loads(pcbench("list", "--json").stdout)
    assert listed["methods"].keys() == registry.METHODS.keys()
    assert listed["ops"].keys() == registry.op_summaries().keys()
    assert "prefill" in listed["suites"]
    assert json.loads(pcbench("list", "tasks", "--json").stdout).keys() == registry.task_tables().keys()


def test_doctor_says_why_not_on_one_line_each(tmp_path):
    lines = pcbench("doctor").stdout.splitlines()
    assert all(line.startswith(("yes ", "no  ")) for line in lines)
    findings = json.loads(forked(["-m", "pcbench", "doctor", "--json"], tmp_path).stdout)
    assert [f["subject"] for f in findings] == [line[4:].split(":")[0] for line in lines]
    attention = [f for f in findings if f["subject"].startswith("attention ")]
    assert [f["subject"] for f in attention if f["detail"] == "for chunks on cpu"] in ([], ["attention flash"])
    assert len(attention) == 6


@pytest.mark.parametrize("device", ["cuda", "rocm"])
def test_a_device_that_is_not_there_is_one_line_and_exit_2(device, refused):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    message = refused("run", "--suite", "prefill", "--device", device)
    assert message.startswith(f"--device: {device} needs a ")
    assert message.endswith("available here: cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "prefil"], '--suite: unknown suite "prefil"; did you mean "prefill"?'),
        (["--suite", "prefill", "--device", "gpu"], "--device: unknown device"),
        (["--suite", "prefill", "--preset", "bnech"], 'suites/prefill.toml: --preset: unknown preset "bnech"'),
        (["--suite", "prefill", "--method", "parallel-comp"], '--method: unknown method "parallel-comp"; did you mean'),
        (["--suite", "prefill", "--set", "suite.context_tokens=[-1]"], "suites/prefill.toml: suite.context_tokens[0]:"),
        (["--suite", "prefill", "--set", "cell.parallel_comp.kepp=1"], "suites/prefill.toml: cell[1].config: unknown"),
        (["--suite", "prefill", "--model", "random:tinny"], '--model: unknown model "random:tinny"; did you mean'),
        (["--suite", "prefill", "--model", "/no/where"], "--model: a known name, a Hugging Face id or a folder, got"),
        (
            ["--suite", "kernels", "--set", "kernel.select_token.keys=1"],
            "suites/kernels.toml: --set kernel.select_token",
        ),
        (
            ["--suite", "kernels", "--set", "kernel.chunk_topk.kep=1"],
            "suites/kernels.toml: kernel[10].grid.small.shapes",
        ),
        (["--suite", "kernels", "--method", "full"], "suites/kernels.toml: --method: unknown op of the suite"),
        (["--suite", "prefill", "--limit", "0"], "pcbench: Invalid value for '--limit'"),
        (["--sweet", "prefill"], "pcbench: No such option: --sweet"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_2(arguments, message, refused, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert refused("run", *arguments).startswith(message)


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("file", "File exists"),
        ("file/below", "Not a directory"),
        ("/proc/x", "No such file or directory"),
        ("/proc", "No such file or directory"),
        ("x" * 300, "File name too long"),
    ],
)
def test_an_out_that_cannot_be_a_folder_is_one_line_and_exit_2(out, why, suite_file, tmp_path, refused):
    (tmp_path / "file").touch()
    place = tmp_path / out
    message = refused("run", "--suite", str(suite_file), "--device", "cpu", "--out", str(place))
    assert message == f"--out: a folder to write in, got {place}: {why}; choose another"
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("how", [[], ["--isolate"]])
def test_a_model_whose_weights_are_cut_off_is_one_line_and_exit_2(how, suite_file, tmp_path):
    import torch

    from pcbench.models.catalog import _random_model

    model = tmp_path / "model"
    _random_model("random:tiny", torch.device("cpu"), torch.float32, {}).save_pretrained(model)
    (model / "tokenizer.json").write_text(TOKENIZER)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    words = ["run", "--suite", suite_file, "--device", "cpu", "--model", model, "--out", tmp_path / "run", *how]
    done = forked(["-m", "pcbench", *words], tmp_path)
    assert done.returncode == 2
    *_, last = done.stderr.strip().splitlines()
    assert "Traceback" not in done.stderr
    assert last.startswith(f"{model}/model.safetensors: safetensors, got an error: SafetensorError")


def test_a_refusal_is_the_exit_code_of_the_process():
    done = pcbench("run", "--suite", "prefil")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith('--suite: unknown suite "prefil"')


def test_traceback_shows_the_rest(tmp_path):
    done = forked(["-m", "pcbench", "--traceback", "run", "--suite", "prefil"], tmp_path)
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_dry_run_prints_the_cells_and_measures_nothing(suite_file, tmp_path):
    done = forked(
        ["-m", "pcbench", "run", "--suite", suite_file, "--device", "cpu", "--dry-run"], tmp_path, folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "8 cells on cpu" in done.stdout
    assert not (tmp_path / "reports").exists()


def test_run_ends_with_the_path_of_its_report(suite_file, tmp_path):
    arguments = ["run", "--suite", suite_file, "--device", "cpu", "--limit", 1, "--out", tmp_path / "run"]
    done = pcbench(*arguments)
    assert done.returncode == 0, done.stderr
    assert not re.search("warning|deprecat|will be removed", done.stderr, re.IGNORECASE), done.stderr
    *_, counts, page = done.stdout.splitlines()
    assert counts == "8 ok"
    assert page == str(tmp_path / "run" / "report.html")
    again = pcbench("report", tmp_path / "run", "--out", tmp_path / "again.html")
    assert again.stdout.strip() == str(tmp_path / "again.html")
    assert forked(["-m", "pcbench", *arguments], tmp_path).returncode == 2


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_resumes_without_losing_or_repeating(suite_file, tmp_path, sent):
    arguments = ["run", "--suite", suite_file, "--device", "cpu", "--out", tmp_path / "run"]
    folder = RunFolder(tmp_path / "run")
    # with samples of the second group and none of its records
    begun = forked([*stopped(sent, folder.samples.path, 7), *arguments], tmp_path)
    before = folder.records.read()
    assert (len(before), len(folder.samples.read())) == (3, 10)
    assert begun.returncode == (130 if sent == signal.SIGINT else -signal.SIGKILL)
    if sent == signal.SIGINT:
        assert begun.stderr.strip().splitlines()[-1].endswith("--resume")
    done = forked(["-m", "pcbench", *arguments, "--resume"], tmp_path)
    assert done.returncode == 0, done.stderr
    after = folder.records.read()
    assert after[:3] == before
    assert [r.cell for r in after] == folder.manifest["cells"]
    samples = [(s.cell, s.id) for s in folder.samples.read()]
    assert len(set(samples)) == len(samples) == 16


@pytest.fixture
def suite_file(tmp_path):
    from harness_suite import SUITE

    path = tmp_path / "small.toml"
    path.write_text(SUITE)
    return path


def test_check_is_green_here():
    done = pcbench("check", "--device", "cpu")
    assert done.returncode == 0, done.stdout
    assert "FAIL" not in done.stdout
    assert "ok   calibrated_attention float32 on cpu" in done.stdout
    assert "ok   calibrated_attention float16 on cpu" in done.stdout
