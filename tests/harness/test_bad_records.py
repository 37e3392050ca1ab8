"""Official files that are not as they should be: what of a run goes on, what it says, and what --resume mends."""

from dataclasses import asdict, replace

import pytest
from harness_suite import ACCURACY
from tasks.made_records import longbench_record, record, write

from pcbench import registry
from pcbench.cli import main
from pcbench.errors import DataMissing
from pcbench.harness.kinds.accuracy import group as accuracy
from pcbench.harness.kinds.methods import session
from pcbench.harness.runner import Options, plan, run
from pcbench.records import RunFolder, read_records

NAME = "longbench/qasper"
GOOD = [longbench_record() | {"input": f"What of {i}?"} for i in range(3)]
LIMITS = "LongBench/config/dataset2maxlen.json"


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("PCBENCH_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def options(tmp_path, data):
    path = tmp_path / "small.toml"
    path.write_text(ACCURACY)

    def made(*tasks, **changes):
        sets = [f"suite.tasks=[{', '.join(tasks or ['passkey', NAME])}]", "suite.context_tokens=[600]"]
        return Options(**(dict(suite=str(path), device="cpu", out=tmp_path / "run", sets=sets) | changes))

    return made


def command(options, *extra):
    """The exit code of the command line that says the same."""
    words = ["run", "--suite", options.suite, "--device", "cpu", "--out", str(options.out), *extra]
    with pytest.raises(SystemExit) as ended:
        main([*words, *(word for text in options.sets for word in ("--set", text))])
    return ended.value.code


def final(folder):
    """What a run leaves, without when it ran."""
    records = [replace(r, run="", started_at=None) for r in read_records(folder)]
    return [asdict(r) for r in records], (folder / "samples.jsonl").read_text()


def of_task(options, name=NAME):
    return [r for r in read_records(options.out) if (r.task or "").startswith(f"{name}@")]


@pytest.mark.parametrize("bad", [0, 2])
@pytest.mark.parametrize("wrong", [{"input": 3}, {"answers": []}])
def test_a_bad_record_is_named_counted_skipped_and_retried(options, data, bad, wrong, capsys):
    path = write(data, NAME, [r | wrong if i == bad else r for i, r in enumerate(GOOD)])
    assert command(options()) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "4 ok; 2 without some of their records, see their warnings"
    assert said.err.count(": 1 of its records skipped") == 2
    assert said.err.count(f"\nskipped {path}:{bad + 1}: ") == 1
    for found in of_task(options()):
        assert (found.status, found.skipped_records) == ("ok", 1)
        assert found.warnings[0] == "1 of 3 records skipped"
        assert found.warnings[1].startswith(f"{path}:{bad + 1}: ")
        assert found.warnings[1].endswith("; get the file again")
        samples = [s for s in RunFolder(options().out).samples.read() if s.cell == found.cell]
        assert [s.index for s in samples] == [i for i in range(3) if i != bad]
    left = final(options().out)
    assert command(options(), "--resume") == 1
    assert final(options().out) == left
    write(data, NAME, GOOD)
    assert command(options(), "--resume") == 0
    whole = options(out=options().out.with_name("whole"))
    assert command(whole) == 0
    assert final(options().out) == final(whole.out)


def test_a_task_without_a_good_record_is_an_error_and_retried(options, data, console):
    path = write(data, NAME, [{"input": 3}, {"input": 4}])
    assert command(options()) == 1
    assert [r.status for r in read_records(options().out)] == ["ok", "ok", "error", "error"]
    for found in of_task(options()):
        assert found.reason.startswith(f"none of 2 records can be used, the first: {path}:1: ")
        assert [w.partition(": ")[0] for w in found.warnings] == ["2 of 2 records skipped", f"{path}:1", f"{path}:2"]
    write(data, NAME, GOOD[:2])
    _, records = run(options(resume=True), console)
    assert {(r.status, r.skipped_records) for r in records} == {("ok", None)}


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        (LIMITS, b'{"qasper": "many"}', "a number of tokens for qasper, got 'many'"),
        (LIMITS, b'{"qasper": 0}', "a number of tokens for qasper, got 0"),
        (LIMITS, b"\xff", "text in UTF-8, got byte 0xff at 0"),
        ("LongBench/config/dataset2prompt.json", b"\xff", "text in UTF-8, got byte 0xff at 0"),
        ("LongBench/data/qasper.jsonl", b"", "records, got none"),
    ],
)
def test_a_broken_official_file_ends_its_task_alone(options, data, console, path, text, reason):
    write(data, NAME, GOOD)
    broken = data / path
    broken.parent.mkdir(exist_ok=True)
    broken.write_bytes(text)
    here = options("passkey", NAME, "kv_retrieval")
    # the tasks' own limits count
    text = ACCURACY.replace("new_tokens = 4\n", "").replace("prompts = 3", "prompts = 1")
    here.out.with_name("small.toml").write_text(text)
    assert command(here) == 1
    assert [r.status for r in read_records(here.out)] == ["ok", "ok", "error", "error", "ok", "ok"]
    assert {r.reason.partition(": ")[0] for r in of_task(here)} == {str(broken)}
    assert all(reason in r.reason and "\n" not in r.reason for r in of_task(here))
    broken.unlink()
    write(data, NAME, GOOD)
    _, records = run(replace(here, resume=True), console)
    assert {r.status for r in records} == {"ok"}


def test_a_file_that_is_no_list_ends_its_task_alone(options, data):
    path = write(data, "gsm8k", [record("gsm8k")])
    path.write_text('{"question": "?"}')
    assert command(options("passkey", "gsm8k")) == 1
    assert [r.status for r in read_records(options().out)] == ["ok", "ok", "error", "error"]
    assert {r.reason for r in of_task(options(), "gsm8k")} == {
        f"{path}: a list in JSON, got a dict; get the file again"
    }


def test_what_nobody_expected_of_a_prompt_ends_its_task_alone(options, data, console, monkeypatch):
    write(data, NAME, GOOD)
    original = accuracy.build_example

    def odd(prepared, tokenizer, index):
        if prepared.cell.task == "passkey" and index == 1:
            raise RuntimeError("odd")
        return original(prepared, tokenizer, index)

    monkeypatch.setattr(accuracy, "build_example", odd)
    folder, records = run(options(), console)
    assert [(r.status, r.reason) for r in records] == [("error", "RuntimeError: odd")] * 2 + [("ok", None)] * 2
    assert "in odd" in (folder.path / "errors.txt").read_text()


def test_a_prompt_without_room_is_unsupported_and_no_error(options, data):
    write(data, NAME, GOOD)
    sets = ["suite.tasks=[passkey, longbench/qasper]", "suite.context_tokens=[600]", "suite.new_tokens=590"]
    assert command(options(sets=sets, limit=1), "--set", "suite.prompts=1") == 2
    assert {r.status for r in read_records(options().out)} == {"unsupported"}


def test_a_scorer_that_cannot_run_is_known_before_the_model_is_loaded(options, data, console, monkeypatch):
    write(data, "longbench/dureader", [longbench_record()])
    write(data, NAME, GOOD[:1])
    trained = dict(model="smollm2-135m", limit=1)
    with monkeypatch.context() as patch:
        patch.setattr("pcbench.tasks.scorers.find_spec", lambda package: None)
        patch.setattr(session, "load_runner", None)
        alone = options("longbench/dureader", **trained)
        with pytest.raises(
            DataMissing, match=r"longbench/dureader: longbench-official\+indel needs jieba; pip install"
        ):
            run(alone, console)
        assert not alone.out.exists()
        assert not plan(options("longbench/dureader")).cells[0].missing, "random weights are not scored"
        both = options(NAME, "longbench/dureader", **trained)
        assert [bool(p.missing) for p in plan(both).cells] == [False, False, True, True]


def test_a_task_whose_scorer_cannot_run_goes_on_when_it_can(options, data, console, monkeypatch):
    write(data, "longbench/dureader", [longbench_record()])
    both = options("passkey", "longbench/dureader", model="smollm2-135m", limit=1, methods=["full"])
    with monkeypatch.context() as patch:
        patch.setattr("pcbench.tasks.scorers.find_spec", lambda package: None)
        _, records = run(both, console)
    reason = "longbench/dureader: longbench-official+indel needs jieba; pip install 'pcbench[zh]'"
    assert [(r.status, r.reason) for r in records] == [("ok", None), ("data_missing", reason)]
    pytest.importorskip("jieba")
    _, records = run(replace(both, resume=True), console)
    assert [(r.status, r.n_samples) for r in records] == [("ok", 1)] * 2


def test_an_answer_ends_where_its_task_says(options, data, console, monkeypatch):
    write(data, "gsm8k", [record("gsm8k")])
    monkeypatch.setitem(registry.task_tables()["gsm8k"], "stop_at", "^")
    folder, _ = run(options("gsm8k"), console)
    assert {(len(s.prediction) <= 4, s.finish) for s in folder.samples.read()} == {(True, "end")}
