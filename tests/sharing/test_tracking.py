"""A tracker is told of each cell once, by the names that the run says; its failures stop nothing."""

import json
import sys
from importlib.util import find_spec

import pytest
from jsonschema import Draft202012Validator
from report.made_runs import record, stock, suite_records

from pcbench.cli import main
from pcbench.errors import ConfigError
from pcbench.records import RunFolder
from pcbench.sharing.schema import FILES, schema
from pcbench.sharing.tracking import NUMBERS, TRACKERS, Tracker
from pcbench.suites.labels import labels

# a package that keeps what it is told, and is loud
STAND_IN = """
import json, pathlib
def told(*words, **more):
    print("loud")
    with pathlib.Path(__file__).with_suffix(".jsonl").open("a") as file:
        file.write(json.dumps([words, more]) + "\\n")
    if words[0] == FAILS:
        raise RuntimeError("the tracker\\nis full")
def init(**more): told("init", **more)
def log(numbers): told("log", numbers)
def finish(): told("finish")
"""
SUITE = """
[suite]
kind = "accuracy"
context_tokens = [300]
prompts = 2
tasks = ["passkey"]
model = "random:tiny"
dtype = "float32"
[[cell]]
method = "full"
backend = "torch"
[[cell]]
method = "parallel_comp"
config = { chunk_tokens = 128, keep = 1 }
[[cell]]
method = "parallel_comp"
config = { chunk_tokens = 128, keep = 2 }
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """`make(fails)` installs the package; what it returns reads what it was told."""
    (tmp_path / "packages").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delitem(sys.modules, "trackio", raising=False)

    def make(fails=""):
        (tmp_path / "packages/trackio.py").write_text(f"FAILS = {fails!r}\n{STAND_IN}")
        told = tmp_path / "packages/trackio.jsonl"
        return lambda: [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []

    yield make
    sys.modules.pop("trackio", None)


def test_every_cell_is_logged_once_with_its_numbers(stand_in, capsys):
    told = stand_in()
    first, *rest = records = suite_records()
    said = []
    tracker = Tracker("trackio", said.append)
    assert told() == []
    tracker("first", first)
    tracker("first again", first)
    tracker.finish(records)
    (_, begun), *logged, (last, _) = told()
    assert (begun["project"], begun["name"]) == ("pcbench", "prefill_cpu")
    assert begun["config"]["torch"] == first.torch
    assert begun["auto_log_cpu"] is begun["auto_log_gpu"] is False
    assert last == ["finish"]
    numbers = [words[1] for words, _ in logged]
    assert len(numbers) == len(records)
    assert numbers[0] == {
        "first/ok": 1,
        **{f"first/{name}": value for name in NUMBERS if (value := getattr(first, name)) is not None},
    }
    assert numbers[0]["first/ms_p50"] == first.ms_p50
    names = [next(iter(found)).removesuffix("/ok") for found in numbers[1:]]
    assert names == [
        f"{label} on {one.workload}, {one.context_tokens:,} tokens"
        for label, one in zip(labels(records)[1:], rest, strict=True)
    ]
    assert said == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("fails", ["init", "log", "finish"])
def test_a_tracker_that_fails_is_told_once_and_left_alone(stand_in, fails):
    told = stand_in(fails)
    said = []
    tracker = Tracker("trackio", said.append)
    tracker("one", stock())
    tracker.finish([stock(), record(), record(workload="prose")])
    assert said == ["--log: trackio ended with the tracker is full; the run goes on, its records are in its folder"]
    assert sum(words[0] == fails for words, _ in told()) == 1


def test_what_is_not_there_is_refused_before_anything_is_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pcbench.sharing.tracking.find_spec", lambda name: None)
    for name, message in (
        ("trackio", "--log: the package trackio, got none; pip install trackio, or leave --log out\n"),
        ("mlflow", "--log: trackio or wandb, got 'mlflow'; leave it out to log nothing\n"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["run", "--suite", "prefill", "--log", name, "--out", str(tmp_path / "run")])
        assert ended.value.code == 2
        assert capsys.readouterr().err == message
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError):
        Tracker("wandb", print)


def test_a_run_logs_its_cells_and_its_files_have_their_formats(stand_in, tmp_path, capsys):
    told = stand_in()
    (tmp_path / "tiny.toml").write_text(SUITE)
    words = ["run", "--suite", str(tmp_path / "tiny.toml"), "--device", "cpu", "--log", "trackio"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--out", str(tmp_path / "run")])
    printed = capsys.readouterr()
    assert not ended.value.code, printed.err
    assert printed.out.splitlines() == ["3 ok", str(tmp_path / "run/report.html")]
    folder = RunFolder(tmp_path / "run")
    wanted = [f"{label} on passkey, 300 tokens/kv_bytes" for label in labels(folder.records.read())]
    assert [next(name for name in words[1] if name.endswith("/kv_bytes")) for words, _ in told()[1:-1]] == wanted
    assert "--log trackio" in folder.manifest["command"]
    for name, file in FILES.items():
        text = (folder.path / file).read_text(encoding="utf-8")
        for row in [text] if name == "manifest" else text.splitlines():
            Draft202012Validator(schema(name)).validate(json.loads(row))


@pytest.mark.parametrize("name", TRACKERS)
def test_the_package_itself_takes_a_run_without_a_network(name, tmp_path, monkeypatch):
    if find_spec(name) is None:
        pytest.skip(f"the package {name} is not installed: pip install {name}")
    for key, value in {"WANDB_MODE": "offline", "WANDB_DIR": tmp_path, "TRACKIO_DIR": tmp_path}.items():
        monkeypatch.setenv(key, str(value))
    said = []
    tracker = Tracker(name, said.append)
    tracker("one", stock())
    tracker.finish([stock(), record()])
    assert said == []
    found = [path for path in tmp_path.rglob("*") if path.is_file() and b"ms_p50" in path.read_bytes()]
    assert found, list(tmp_path.rglob("*"))
