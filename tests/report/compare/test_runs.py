"""Which runs may be held against each other, and what odd folders say."""

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from report.made_comparisons import answered, quiet_pair, write
from report.made_runs import record, stock

from pcbench.errors import ConfigError, DataMissing
from pcbench.report.compare.runs import read_compared, shared_cells


@pytest.fixture
def refusal(tmp_path):
    """The one line that refuses two runs of these records and samples."""

    def make(before, after, samples=((), ())):
        folders = [write(tmp_path / n, r, s) for n, r, s in zip("ab", (before, after), samples, strict=True)]
        with pytest.raises(ConfigError) as refused:
            read_compared(folders)
        message = str(refused.value)
        assert "\n" not in message
        return message

    return make


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"suite": "other"}, "compare: the same suite, got prefill in a and other in b; compare runs of one suite"),
        ({"model": "random:tiny"}, "the same model, got smollm2-135m in a and random:tiny in b"),
        ({"dtype": "bfloat16"}, "the same dtype, got float32 in a and bfloat16 in b"),
        ({"device": "cuda", "backend": "cuda"}, "the same device, got cpu in a and cuda in b"),
        ({"seed": 1}, "the same seed, got 0 in a and 1 in b"),
        ({"workload": "prose"}, "the same workload, got passkey in a and prose in b"),
        ({"context_tokens": 99}, "the same context_tokens, got 8192 in a and 99 in b"),
        ({"compile_ms": 9.0}, "compare: the same suite.compile, got false in a and true in b"),
        ({"method_config": {"keep": 3}}, "compare: cells in common, got others in a and others in b"),
    ],
)
def test_read_compared_says_what_differs(refusal, changes, message):
    moved = record(**changes)
    # in a run, the cell follows from all of these
    assert message in refusal([record()], [replace(moved, cell=moved.cell[::-1])])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"scorer": "needle@2"},
            "the same scorer of ParallelComp on passkey, 8,192 tokens, got needle@1 in a and needle@2",
        ),
        (
            {"score_name": "recall"},
            "the same score of ParallelComp on passkey, 8,192 tokens, got share of keys found in a",
        ),
        (
            {"served_model": "other"},
            "the same serving engine's model of ParallelComp on passkey, 8,192 tokens, got made in a and other in b",
        ),
        (
            {"task": "passkey@2"},
            "the same task and version of ParallelComp on passkey, 8,192 tokens, got passkey@1 in a",
        ),
        (
            {"prompts": "pcbench/2"},
            "the same prompt texts of ParallelComp on passkey, 8,192 tokens, got pcbench/1 in a",
        ),
    ],
)
def test_read_compared_refuses_a_cell_that_measured_another_thing(refusal, changes, message):
    before = record(prompts="pcbench/1", served_model="made")
    assert message in refusal([stock(), before], [stock(), replace(before, **changes)])


@pytest.mark.parametrize(
    ("before", "after", "got"),
    [({"ranks": 2}, {"ranks": 4}, "2 in a and 4 in b"), ({}, {"ranks": 4}, "no number in a and 4 in b")],
)
def test_read_compared_refuses_other_ranks_where_they_share_chunks(tmp_path, before, after, got):
    def run(name, environment, **config):
        return write(tmp_path / name, [stock(), record(method_config=config)], environment=environment)

    with pytest.raises(ConfigError) as refused:
        read_compared([run("a", before, ranks="chunks"), run("b", after, ranks="chunks")])
    assert str(refused.value) == (
        f"compare: the same number of ranks for ParallelComp on passkey, 8,192 tokens, got {got}; measure both with "
        "as many"
    )
    assert len(read_compared([run("c", after, ranks="chunks"), run("d", after, ranks="chunks")])) == 2
    # ranks that take prompts of their own change no cell
    assert len(read_compared([run("e", before, ranks="one"), run("f", after, ranks="one")])) == 2


def test_read_compared_takes_a_run_without_scores(tmp_path):
    unscored = replace(record(), score=None, scorer=None, score_name=None)
    runs = read_compared([write(tmp_path / "a", [record()]), write(tmp_path / "b", [unscored])])
    assert [len(run.records) for run in runs] == [1, 1]


def test_read_compared_refuses_other_prompts(refusal):
    one = record()
    message = refusal([one], [one], (answered(one, [1, 1]), answered(one, [1, 1], text="b")))
    assert message.startswith("compare: the same prompts of ParallelComp on passkey, 8,192 tokens, 0, got sha256 6130")


def test_read_compared_refuses_scores_with_thoughts_beside_scores_without(refusal, tmp_path):
    one = record()

    def thought(*rules, said="<think>7?</think> 8"):
        samples = zip(answered(one, [1] * len(rules)), rules, strict=True)
        return [replace(sample, prediction=said, answer_rule=rule) for sample, rule in samples]

    assert refusal([one], [one], (thought(None, None), thought("after-think@1", "after-think@1"))) == (
        "compare: the same answer_rule of ParallelComp on passkey, 8,192 tokens, got none, thoughts scored (1) in a "
        "and after-think@1 (1) in b; measure both with one suite.thinking"
    )
    alike = [thought("after-think@1"), thought(None, said="8"), thought("after-think@1")]
    folders = [write(tmp_path / name, [one], samples) for name, samples in zip("xyz", alike, strict=True)]
    assert len(read_compared(folders)) == 3


def test_read_compared_refuses_prompts_of_which_none_is_shared(refusal):
    one = record()
    other = [replace(sample, id=f"late {sample.id}") for sample in answered(one, [1])]
    message = refusal([one], [one], (answered(one, [1]), other))
    assert "the same prompts of ParallelComp on passkey, 8,192 tokens, got 0 in a and late 0 in b" in message


def test_read_compared_takes_runs_of_different_lengths(tmp_path):
    one = record()
    folders = [write(tmp_path / n, [one], answered(one, [1] * k)) for n, k in (("a", 3), ("b", 5))]
    assert [len(run.samples[one.cell]) for run in read_compared(folders)] == [3, 5]


@pytest.mark.parametrize("folders", [[], ["a"]])
def test_read_compared_wants_two_runs(tmp_path, folders):
    with pytest.raises(ConfigError, match=f"two runs or more, got {len(folders)}"):
        read_compared([tmp_path / name for name in folders])


def test_read_compared_refuses_a_folder_twice_however_it_is_written(tmp_path):
    folder = write(tmp_path / "a", [record()])
    with pytest.raises(ConfigError, match=r"every run once, got \S+/a twice; remove one"):
        read_compared([folder, tmp_path / "b" / ".." / "a"])


def test_read_compared_names_a_folder_that_is_missing(tmp_path):
    folder = write(tmp_path / "a", [record()])
    with pytest.raises(DataMissing, match=r"b: a run's folder with manifest.json, got none"):
        read_compared([folder, tmp_path / "b"])


def test_read_compared_names_a_run_without_a_record(tmp_path):
    folders = [write(tmp_path / "a", [record()]), write(tmp_path / "b", [])]
    with pytest.raises(DataMissing, match=r"b: a run with records, got none; finish it .* --resume"):
        read_compared(folders)


def test_read_compared_leaves_out_a_record_that_was_cut(tmp_path):
    folders = [write(tmp_path / name, quiet_pair()) for name in "ab"]
    path = folders[1] / "records.jsonl"
    path.write_text(path.read_text()[:-40])
    before, after = read_compared(folders)
    assert shared_cells(before, after) == [next(iter(before.records))]


def test_read_compared_leaves_out_a_sample_that_was_cut(tmp_path):
    one = record()
    folders = [write(tmp_path / name, [one], answered(one, [1, 1, 1])) for name in "ab"]
    path = folders[1] / "samples.jsonl"
    path.write_text(path.read_text()[:-40])
    assert [len(run.samples[one.cell]) for run in read_compared(folders)] == [3, 2]


def test_read_compared_names_the_line_that_is_no_record(tmp_path):
    folders = [write(tmp_path / name, quiet_pair()) for name in "ab"]
    path = folders[1] / "records.jsonl"
    path.write_text(path.read_text()[:400] + "\n")
    with pytest.raises(ConfigError, match=r"b/records.jsonl:1: JSON, got "):
        read_compared(folders)


def test_read_compared_tells_runs_of_one_folder_name_apart(tmp_path):
    first = write(tmp_path / "x" / "run", [record()])
    second = tmp_path / "y" / "run"
    shutil.copytree(first, second)
    assert [run.name for run in read_compared([first, second])] == [str(first), str(second)]


def test_names_tell_cells_apart_by_the_settings_that_differ(tmp_path):
    cells = [record(method_config={"keep": 1, "micro_batch": n, "chunk_tokens": 64}) for n in (1, 4)]
    cells += [record(context_tokens=None, method_config={"keep": 2}), stock()]
    run, _ = read_compared([write(tmp_path / name, cells) for name in "ab"])
    assert list(run.names.values()) == [
        "ParallelComp, chunks of 64 tokens, 1 chunk at a time on passkey, 8,192 tokens",
        "ParallelComp, chunks of 64 tokens, 4 chunks at a time on passkey, 8,192 tokens",
        "ParallelComp on passkey",
        "Full attention on passkey, 8,192 tokens",
    ]


def test_compare_needs_no_torch(tmp_path):
    folders = [str(write(tmp_path / name, quiet_pair())) for name in "ab"]
    program = "import sys; sys.modules['torch'] = None; from pcbench.cli import main; main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", program, "compare", *folders], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "1 ratio against a, margin 5 %: 1 same"


def test_cells_over_quantised_weights_have_names_of_their_own(tmp_path):
    records = [stock(), stock(quantize="int8", cell="0123456789ab", group="ba9876543210")]
    before, _ = read_compared([write(tmp_path / name, records, ()) for name in "ab"])
    plain = before.names[records[0].cell]
    assert before.names["0123456789ab"] == plain.replace("Full attention", "Full attention, int8 weights") != plain
