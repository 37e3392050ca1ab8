import json
import os
import signal
from dataclasses import asdict, replace

import pytest
from forked import forked
from harness_suite import ACCURACY
from stopped import stopped
from tiny import Wrong

from pcbench import ops, registry
from pcbench.errors import ConfigError, DataMissing, Interrupted
from pcbench.harness import runner
from pcbench.harness.kinds.accuracy import group as accuracy
from pcbench.harness.kinds.methods import group
from pcbench.harness.runner import Options, plan, run
from pcbench.records import RunFolder, read_records

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def options(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(ACCURACY)
    return lambda **changes: Options(**(dict(suite=str(path), device="cpu", out=tmp_path / "run") | changes))


def final(folder):
    """What a run leaves, without when it ran and the checkout, where someone may work meanwhile."""
    records = [replace(r, run="", started_at=None, commit=None, dirty=None) for r in read_records(folder)]
    return [asdict(r) for r in records], (folder / "samples.jsonl").read_text()


def test_run_leaves_a_record_a_cell_and_a_sample_a_prompt(options, console):
    folder, records = run(options(), console)
    assert [r.cell for r in records] == folder.manifest["cells"]
    assert {(r.kind, r.status, r.prompts, r.ms_p50, r.peak_bytes) for r in records} == {
        ("accuracy", "ok", "pcbench/1", None, None)
    }
    samples = folder.samples.read()
    assert [(s.cell, s.index) for s in samples] == [(r.cell, i) for r in records for i in range(3)]
    assert {(s.tokens, s.finish) for s in samples} == {(296, "length")}
    ours = next(r for r in records if r.backend == "cpu")
    assert ours.parity_err <= ours.parity_bound
    assert (ours.chunks, ours.chunks_kept) == (2, 1)
    assert ours.kept_tokens == max(s.kept_tokens for s in samples if s.cell == ours.cell)
    assert ours.warnings == ["random weights: not scored"]


def test_every_cell_of_a_group_reads_the_same_prompts(options, console):
    folder, _ = run(options(), console)
    hashes = {}
    for sample in folder.samples.read():
        hashes.setdefault(sample.cell, []).append(sample.prompt_sha256)
    assert len(hashes) == 4
    assert len(set(map(tuple, hashes.values()))) == 2


def test_a_sample_is_on_the_disk_before_the_next_prompt(options, console, monkeypatch):
    seen, original = [], accuracy.AccuracyGroup._take

    def take(self, index, example):
        seen.append(len(RunFolder(options().out).samples.read()))
        original(self, index, example)

    monkeypatch.setattr(accuracy.AccuracyGroup, "_take", take)
    run(options(), console)
    assert seen == [0, 2, 4, 6, 8, 10]


def test_a_killed_run_resumes_to_the_same_records_and_samples(options, console, tmp_path):
    many = options(sets=["suite.prompts=20"])
    run(replace(many, out=tmp_path / "whole"), console)
    left = RunFolder(many.out)
    program = stopped(signal.SIGKILL, left.samples.path, 61)
    words = ["run", "--suite", many.suite, "--device", "cpu", "--set", many.sets[0], "--out", str(many.out)]
    done = forked([*program, *words], tmp_path, environment=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == -signal.SIGKILL
    assert len(left.samples.read()) == 61
    # the first group and half of the second
    assert len(left.records.read()) == 2
    run(replace(many, resume=True), console)
    assert final(many.out) == final(tmp_path / "whole")


def test_resume_takes_samples_by_their_content(options, console):
    folder, _ = run(options(), console)
    samples = folder.samples.read()
    mine, other, old = samples[0], samples[1], samples[3]
    marked = replace(mine, prediction="taken")
    changed = [marked, replace(other, prompt_sha256="0", prediction="of another prompt")]
    folder.records.replace([])
    folder.samples.replace([*changed, replace(old, task="passkey@0", prediction="of another version")])
    run(options(resume=True), console)
    assert folder.samples.read() == [marked, *samples[1:]]


def test_resume_of_a_finished_run_measures_nothing(options, console, monkeypatch):
    folder, first = run(options(), console)
    samples = folder.samples.read()
    monkeypatch.setattr(runner, "measure_group", None)
    _, again = run(options(resume=True), console)
    assert again == first
    assert folder.samples.read() == samples


def test_an_interrupted_run_says_how_to_go_on(options, console, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(accuracy.AccuracyGroup, "_take", interrupted)
    with pytest.raises(Interrupted, match=r"go on with: pcbench run .* --out \S+ --resume"):
        run(options(), console)


def test_the_order_of_prompts_changes_nothing(options, console, tmp_path, monkeypatch):
    run(options(), console)
    monkeypatch.setattr(accuracy.ranks, "share", lambda items: list(reversed(items)))
    run(options(out=tmp_path / "backwards"), console)
    assert final(tmp_path / "backwards") == final(options().out)


def test_isolation_measures_as_without(options, console, tmp_path):
    run(options(), console)
    run(options(out=tmp_path / "apart", isolate=True), console)
    ours, apart = final(options().out), final(tmp_path / "apart")
    for record in (*ours[0], *apart[0]):
        record["repro_command"] = None
    assert ours == apart


def test_a_cell_that_fails_parity_has_no_score_and_no_samples(options, console, monkeypatch):
    real = ops.backend
    monkeypatch.setattr(group.ops, "backend", lambda name, *_: Wrong() if name == "cpu" else real(name))
    folder, records = run(options(), console)
    wrong = [r for r in records if r.backend == "cpu"]
    assert {r.status for r in wrong} == {"parity_failed"}
    assert all(r.parity_err > r.parity_bound and r.score is None and r.score_vs_full is None for r in wrong)
    assert {s.cell for s in folder.samples.read()}.isdisjoint(r.cell for r in wrong)
    assert {r.status for r in records if r.backend != "cpu"} == {"ok"}


def test_a_cell_that_goes_wrong_keeps_its_samples_and_is_taken_up_again(options, console, monkeypatch):
    def fails_at_the_third(self, lane, example, original=group.Group._pass):
        if lane.prepared.cell.backend == "cpu" and example.id.endswith("/2"):
            raise RuntimeError("odd")
        original(self, lane, example)

    with monkeypatch.context() as patch:
        patch.setattr(group.Group, "_pass", fails_at_the_third)
        folder, records = run(options(), console)
    assert {(r.status, r.reason) for r in records if r.backend == "cpu"} == {("error", "RuntimeError: odd")}
    assert "RuntimeError: odd" in (folder.path / "errors.txt").read_text()
    assert len(folder.samples.read()) == 10
    kept = folder.samples.read()
    _, records = run(options(resume=True), console)
    assert {r.status for r in records} == {"ok"}
    assert [s for s in folder.samples.read() if s.index < 2] == [s for s in kept if s.index < 2]


@pytest.fixture
def no_data(tmp_path, monkeypatch):
    monkeypatch.setenv("PCBENCH_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "LongBench" / "data"


QASPER = {"context": "It was cold. " * 5, "input": "How was it?", "answers": ["cold"], "length": 120}


def put(no_data, *records):
    no_data.mkdir(parents=True, exist_ok=True)
    line = {"dataset": "qasper", "language": "en", "all_classes": None, "_id": "1"}
    (no_data / "qasper.jsonl").write_text("".join(json.dumps(x | line) + "\n" for x in records))


KEY = QASPER | {"context": "The pass key is 71432. Remember it. " * 4, "input": "What is the pass key?"}


def test_records_that_ask_the_same_have_scores_of_their_own(options, console, no_data):
    put(no_data, KEY | {"answers": ["71432"]}, KEY | {"answers": ["nothing of it"]})
    sets = ["suite.tasks=[longbench/qasper]", "suite.context_tokens=[300]", "suite.by_words=true"]
    scored = options(sets=[*sets, "suite.new_tokens=12"], model="smollm2-135m")
    folder, records = run(scored, console)
    samples = folder.samples.read()
    assert [(s.index, s.answers, s.score > 0) for s in samples] == [
        (0, ["71432"], True),
        (1, ["nothing of it"], False),
    ] * 2
    assert len({s.prompt_sha256 for s in samples}) == 1
    assert [(r.n_samples, r.score) for r in records] == [(2, s.score / 2) for s in samples[::2]] * 2
    whole = final(folder.path)
    folder.records.replace([])
    # of the first cell's first sample a score that its record would not give
    folder.samples.replace([replace(samples[0], score=0.125), *samples[1:3]])
    run(replace(scored, resume=True), console)
    assert final(folder.path) == whole


def test_resume_takes_a_record_again_that_has_changed_around_its_prompt(options, console, no_data):
    put(no_data, QASPER, QASPER)
    here = options(sets=["suite.tasks=[longbench/qasper]", "suite.context_tokens=[800]"])
    folder, _ = run(here, console)
    first = folder.samples.read()
    put(no_data, QASPER | {"answers": ["chilly"]}, QASPER | {"length": 9000})
    folder.records.replace([])
    run(replace(here, resume=True), console)
    second = folder.samples.read()
    assert [(s.answers, s.words) for s in second] == [(["chilly"], 120), (["cold"], 9000)] * 2
    assert [(s.cell, s.id, s.prompt_sha256) for s in second] == [(s.cell, s.id, s.prompt_sha256) for s in first]


def test_a_task_without_data_is_missing_beside_those_that_run(options, console, no_data):
    sets = ["suite.tasks=[passkey, longbench/qasper]", "suite.context_tokens=[800]"]
    folder, records = run(options(sets=sets), console)
    assert [r.status for r in records] == ["ok", "ok", "data_missing", "data_missing"]
    assert "LongBench/data/qasper.jsonl below" in records[2].reason
    put(no_data, QASPER, QASPER | {"input": "And then?"})
    _, records = run(options(sets=sets, resume=True), console)
    assert [r.status for r in records] == ["ok"] * 4
    assert [s.index for s in folder.samples.read() if s.cell == records[2].cell] == [0, 1]
    assert all(s.tokens_before >= s.tokens for s in folder.samples.read() if s.cell == records[2].cell)


def test_nothing_but_missing_data_stops_the_run(options, no_data):
    with pytest.raises(DataMissing, match=r"longbench/qasper: records in LongBench/data/qasper.jsonl below .*put it"):
        plan(options(sets=["suite.tasks=[longbench/qasper]"]))
    assert not options().out.exists()


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ("suite.tasks=[paskey]", 'suite.tasks: unknown task "paskey"; did you mean "passkey"'),
        ("suite.tasks=[passkey, passkey]", "suite.tasks: every task once, got passkey twice"),
        ("suite.average=[paskey]", 'suite.average: unknown task "paskey"'),
        ("suite.repeats=3", 'unknown name "repeats"'),
        ("workload.passkey.prompts=3", 'unknown name "passkey"'),
        ("cell.full.up_to=100", "every cell once"),
    ],
)
def test_plan_says_what_is_wrong(options, sets, message):
    suite = ACCURACY + '[[cell]]\nmethod = "parallel_comp"\n[cell.config]\nchunk_tokens = 128\nkeep = 1\n'
    options().out.with_name("small.toml").write_text(suite if "up_to" in sets else ACCURACY)
    with pytest.raises(ConfigError, match=message):
        plan(options(sets=[sets]))


def test_generated_tasks_need_a_number_of_prompts(options):
    options().out.with_name("small.toml").write_text(ACCURACY.replace("prompts = 3\n", ""))
    with pytest.raises(ConfigError, match=r"suite.prompts: a number for passkey, which is generated"):
        plan(options())


def test_short_names_are_of_the_suites_benchmark(options):
    named = ["suite.benchmark=longbench", "suite.tasks=[passkey, longbench/qasper, lcc]"]
    cells = plan(options(sets=named)).cells
    assert [(p.cell.workload, p.cell.task) for p in cells[::2]] == [
        ("passkey", "passkey"),
        ("qasper", "longbench/qasper"),
        ("lcc", "longbench/lcc"),
    ]


def test_repro_command_measures_the_same_group_again(options, console):
    import shlex

    _, records = run(options(limit=1), console)
    words = shlex.split(records[2].repro_command)
    sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    again = plan(Options(suite=words[3], device="cpu", sets=sets, limit=1))
    assert [p.cell.key for p in again.cells] == [r.cell for r in records[2:]]


def test_a_broken_method_of_a_suite_is_known_by_name(options, console, monkeypatch):
    monkeypatch.setitem(registry.METHODS, "broken", "tiny:Broken")
    text = ACCURACY + '[[cell]]\nmethod = "broken"\nbackend = "reference"\n[cell.config]\nhow = "refuses"\n'
    options().out.with_name("small.toml").write_text(text)
    _, records = run(options(limit=1), console)
    assert [r.status for r in records] == ["ok", "ok", "unsupported"] * 2
