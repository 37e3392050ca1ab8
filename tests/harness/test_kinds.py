import ast
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import harness_suite
import pytest

import pcbench.harness
from pcbench import registry
from pcbench.cli import main
from pcbench.errors import ConfigError
from pcbench.harness import runner
from pcbench.harness.doctor import diagnose
from pcbench.records import RunFolder
from pcbench.suites import load_suite

SUITE = """
# Sums.
[suite]
kind = "toy"
numbers = [10, 1000, 100000]
"""
HARNESS = Path(pcbench.harness.__file__).parent


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Runs a suite of a kind that pcbench does not have; says the exit code."""
    monkeypatch.setitem(registry.KINDS, "toy", "toy_kind:Toy")
    path = tmp_path / "sums.toml"
    path.write_text(SUITE)

    def start(*more, out=tmp_path / "run"):
        with pytest.raises(SystemExit) as ended:
            main(["run", "--suite", str(path), "--device", "cpu", "--out", str(out), *more])
        return ended.value.code or 0

    return start


def test_a_kind_from_outside_is_run_and_reported(toy, tmp_path, capsys):
    assert toy() == 0, capsys.readouterr().err
    folder = RunFolder(tmp_path / "run")
    records = folder.records.read()
    assert [(r.kind, r.status, r.workload, r.repeats) for r in records] == [
        ("toy", "ok", f"{n} numbers", 3) for n in (10, 1000, 100000)
    ]
    assert [s.prediction for s in folder.samples.read()] == ["45", "499500", "4999950000"]
    assert [folder.manifest[key] for key in ("cells", "new_tokens")] == [[r.cell for r in records], []]
    page = (tmp_path / "run/report.html").read_text()
    assert all(f"{n} numbers" in page for n in (10, 1000, 100000))
    assert "3 ok" in capsys.readouterr().out


def test_a_kind_from_outside_has_a_dry_run_that_measures_nothing(toy, tmp_path, capsys):
    assert toy("--dry-run", "--limit", "2") == 0
    out = capsys.readouterr().out
    assert "sum/numpy on 1000 numbers" in out
    assert "3 cells on cpu" in out
    assert "numbers MiB" in out
    assert not (tmp_path / "run").exists()


def test_a_kind_from_outside_resumes_without_losing_or_repeating(toy, tmp_path, monkeypatch, capsys):
    real, seen = runner.measure_group, []

    def measure(session, cells, *more):
        if seen:
            raise KeyboardInterrupt
        seen.append(cells)
        return real(session, cells, *more)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "measure_group", measure)
        assert toy() == 130
    (first,) = RunFolder(tmp_path / "run").records.read()
    assert toy("--resume", "--set", "suite.rounds=4") == 2
    assert "--resume: suite.rounds = 3" in capsys.readouterr().err
    assert toy("--resume") == 0
    records = RunFolder(tmp_path / "run").records.read()
    assert records[0] == first
    assert len(records) == 3


def test_a_kind_from_outside_is_isolated_and_its_lost_group_taken_again(toy, tmp_path, capsys):
    assert toy("--isolate", "--set", "suite.deadly=1000") == 1
    records = RunFolder(tmp_path / "run").records.read()
    assert [r.status for r in records] == ["ok", "error", "ok"]
    assert "signal SIGKILL" in records[1].reason
    # so that a record of the second time is known from it
    kept = [records[0], replace(records[1], reason="of the first time"), records[2]]
    RunFolder(tmp_path / "run").records.replace(kept)
    assert toy("--isolate", "--resume", "--set", "suite.deadly=1000") == 1
    again = RunFolder(tmp_path / "run").records.read()
    assert [again[i] for i in (0, 2)] == [records[i] for i in (0, 2)]
    assert (again[1].cell, again[1].status) == (records[1].cell, "error")
    assert "signal SIGKILL" in again[1].reason


def test_the_repro_command_of_a_kind_from_outside_measures_its_group(toy, tmp_path):
    assert toy() == 0
    record = RunFolder(tmp_path / "run").records.read()[1]
    words = shlex.split(record.repro_command)
    assert toy(*words[words.index("--set") :], out=tmp_path / "again") == 0
    (again,) = RunFolder(tmp_path / "again").records.read()
    assert again.cell == record.cell


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ('"prefil"', r'suite.kind: unknown kind of measurement "prefil"; did you mean "prefill"\?'),
        ("3", "suite.kind: one of prefill, memory, throughput, accuracy, perplexity, kernel, got 3; add it"),
    ],
)
def test_a_kind_that_is_not_there_is_refused_by_name(tmp_path, kind, message):
    (tmp_path / "sums.toml").write_text(SUITE.replace('"toy"', kind))
    with pytest.raises(ConfigError, match=message):
        load_suite(str(tmp_path / "sums.toml"), "cpu")


def test_a_kind_may_be_named_by_its_place(toy, tmp_path):
    path = tmp_path / "sums.toml"
    path.write_text(SUITE.replace('"toy"', '"toy_kind:Toy"'))
    planned = runner.plan(runner.Options(str(path), "cpu", limit=2))
    assert [(p.cell.kind, p.cell.repeats) for p in planned.cells] == [("toy_kind:Toy", 2)] * 3
    path.write_text(SUITE.replace('"toy"', '"toy_kind:Settings"'))
    with pytest.raises(ConfigError, match=r"sums.toml: suite.kind: a kind of measurement with read, session, "):
        load_suite(str(path), "cpu")


def test_a_kind_may_come_with_an_installed_package(install, tmp_path):
    install("sums", {"kinds": {"sum": "toy_kind:Toy", "none": "toy_kind:Settings"}}, {})
    path = tmp_path / "sums.toml"
    path.write_text(SUITE.replace('"toy"', '"sum"'))
    planned = runner.plan(runner.Options(str(path), "cpu"))
    assert [p.cell.kind for p in planned.cells] == ["sum"] * 3
    said = {f.subject: (f.usable, f.detail) for f in diagnose() if f.subject.startswith("kind ")}
    assert said["kind sum"] == (True, "of sums 1.0")
    assert said["kind none"][0] is False


@pytest.mark.parametrize(
    ("text", "prompts", "new_tokens"),
    [
        (harness_suite.SUITE, [2] * 8, [4] * 8),
        # what the suite says, not what the tasks have
        (harness_suite.ACCURACY, [3] * 4, [4] * 4),
        (SUITE, [3] * 3, []),
    ],
)
def test_what_a_resumed_run_must_share_keeps_its_names(toy, tmp_path, text, prompts, new_tokens):
    (tmp_path / "small.toml").write_text(text)
    fixed = runner.plan(runner.Options(str(tmp_path / "small.toml"), "cpu")).kind.fixed()
    assert list(fixed) == ["cells", "tasks", "timed", "prompts", "new_tokens"]
    assert (fixed["prompts"], fixed["new_tokens"]) == (prompts, new_tokens)


def trees(where):
    return {path: ast.parse(path.read_text()) for path in HARNESS.glob(where)}


def test_nothing_in_the_harness_asks_for_a_kind():
    rooms = trees("kinds/*/*.py")
    of_kinds = {node.name for tree in rooms.values() for node in tree.body if isinstance(node, ast.ClassDef)}
    assert {"Accuracy", "PreparedKernel", "AccuracySettings"} <= of_kinds
    asked = []
    for path, tree in trees("**/*.py").items():
        for node in ast.walk(tree):
            parts = [*ast.walk(node)]
            named = {part.id for part in parts if isinstance(part, ast.Name)}
            read = {part.attr for part in parts if isinstance(part, ast.Attribute)}
            if isinstance(node, ast.Compare) and "kind" in read:
                asked.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance" and named & of_kinds:
                asked.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert asked == []


def test_settings_of_every_kind_are_read_without_torch():
    rooms = sorted(path.parent.name for path in HARNESS.glob("kinds/*/settings.py"))
    assert rooms == ["accuracy", "kernel", "methods", "perplexity"]
    modules = ", ".join(f"pcbench.harness.kinds.{room}.settings" for room in rooms)
    done = subprocess.run([sys.executable, "-c", f"import sys, {modules}; sys.exit('torch' in sys.modules)"])
    assert done.returncode == 0
