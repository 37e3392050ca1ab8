"""A run in shards: whose share is whose, and the folder that they make together."""

import json
import os
import re
import signal
import threading
from collections import Counter
from dataclasses import asdict, replace

import pytest
from forked import forked
from harness_suite import ACCURACY, SUITE
from stopped import stopped

from pcbench import registry
from pcbench.cli import main
from pcbench.errors import ConfigError, DiskFull
from pcbench.harness.plan import plan
from pcbench.harness.runner import Options, run
from pcbench.harness.shards.merge import merge
from pcbench.harness.shards.shard import Shard, asked
from pcbench.records import RunFolder, read_records

pytestmark = pytest.mark.usefixtures("one_thread")

# what differs between two runs of the same: when, by which name, and the checkout, where someone may work meanwhile
OTHERWISE = {"run": "", "started_at": None, "commit": None, "dirty": None}
TIMES = ("ms_", "samples_ms")

ANSWERS = ACCURACY.replace("prompts = 3", "prompts = 5")
SUMS = """
# Sums for tests.
[suite]
kind = "sums"
numbers = [100, 200, 300, 400, 500]
"""

TEXT = """
# A suite of perplexity for tests.
[suite]
kind = "perplexity"
prompts = 4
stride = 40
scored_tokens = 40
query_tokens = 16
whole_windows = 1
context_tokens = [120]
text = "{text}"
[device.cpu]
model = "random:tiny"
dtype = "float32"
[[cell]]
method = "full"
backend = "torch"
[[cell]]
method = "parallel_comp"
[cell.config]
chunk_tokens = 64
keep = 1
"""


@pytest.fixture
def options(tmp_path):
    """A suite, unless another is given an accuracy suite of two tasks with five prompts each."""
    path = tmp_path / "small.toml"

    def made(text=ANSWERS, **changes):
        path.write_text(text)
        return Options(**(dict(suite=str(path), device="cpu", out=tmp_path / "run") | changes))

    return made


def left(folder):
    """Records and samples, as lines."""
    records = [json.dumps(asdict(replace(record, **OTHERWISE))) for record in read_records(folder)]
    return records, (folder / "samples.jsonl").read_text()


def sharded(options, count, console):
    """The folders of all shards of a run."""
    shards = [Shard(number, count) for number in range(1, count + 1)]
    taken = [replace(options, out=options.out.with_name(f"shard{s.number}"), shard=s) for s in shards]
    return [run(one, console)[0].path for one in taken]


def untimed(folder):
    records = [asdict(replace(record, **OTHERWISE)) for record in read_records(folder)]
    return [{name: x for name, x in record.items() if not name.startswith(TIMES)} for record in records]


@pytest.mark.parametrize("count", [2, 3, 7])
def test_every_group_is_one_shards_and_stays_it_when_the_suite_grows(count):
    shards = [Shard(number, count) for number in range(1, count + 1)]
    found = [shard.groups(range(20)) for shard in shards]
    assert sorted(i for own in found for i in own) == list(range(20))
    assert [shard.groups(range(31))[: len(own)] for shard, own in zip(shards, found, strict=True)] == found
    assert max(map(len, found)) - min(map(len, found)) <= 1
    # lengths that double: no shard has the longest of every workload
    assert Shard(2, 2).groups(["a short", "a long", "b short", "b long"]) == ["a long", "b short"]


@pytest.mark.parametrize("count", [2, 3, 7])
def test_every_prompt_is_one_shards_and_stays_it_when_the_task_grows(count):
    taken = Counter()
    for group in (f"{i:012x}" for i in range(0, 10**9, 10**7 + 1)):
        shares = [Shard(number, count).prompts(group) for number in range(1, count + 1)]
        assert sorted(i for first, step in shares for i in range(first, 50, step)) == list(range(50))
        taken.update({number: len(range(first, 3, step)) for number, (first, step) in enumerate(shares)})
    # of many groups with three prompts no shard has much more than its part
    assert max(taken.values()) < 1.5 * taken.total() / count


def test_a_shard_is_what_is_asked_or_the_job_of_an_array(monkeypatch):
    def array(**variables):
        for name in ("ID", "MIN", "MAX", "STEP", "COUNT"):
            monkeypatch.delenv(f"SLURM_ARRAY_TASK_{name}", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))

    array()
    assert (asked(None), asked("1/1"), asked("2/3")) == (None, None, Shard(2, 3))
    for wrong in ("0/3", "4/3", "2", "1/0", "a/b", "-1/2", "1/3/4", "1/99999999999"):
        with pytest.raises(ConfigError, match=r"^--shard: NUMBER/COUNT with 1 <= NUMBER <= COUNT, got .*; write 2/8"):
            asked(wrong)
    array(ID=8, MIN=0, MAX=12, STEP=4, COUNT=4)
    assert (asked(None), asked(None).by) == (Shard(3, 4), "SLURM_ARRAY_TASK_ID=8")
    assert (asked("1/1"), asked("1/2")) == (None, Shard(1, 2))
    array(ID=3, MIN=3, MAX=3, STEP=1, COUNT=1)
    assert asked(None) is None
    array(ID=7, MIN=1, MAX=7, STEP=1, COUNT=3)
    with pytest.raises(ConfigError, match=r"^SLURM_ARRAY_TASK_ID: a job of an array with equal steps, .* got job 7 of"):
        asked(None)
    array(ID="x", COUNT=3)
    with pytest.raises(ConfigError, match=r"^SLURM_ARRAY_TASK_ID: a whole number in .*, got 'x'; name the share by --"):
        asked(None)


def test_shards_of_timed_groups_cut_none_and_estimate_their_own(options):
    whole = plan(options(SUITE))
    shards = [plan(options(SUITE, shard=Shard(number, 2))) for number in (1, 2)]
    assert [shard.said for shard in shards] == [
        "shard 1/2 (--shard): 1 of 3 groups",
        "shard 2/2 (--shard): 2 of 3 groups",
    ]
    assert [len(list(shard.kind.estimates())) for shard in shards] == [3, 5]
    groups = [[p.cell.key for p in cells] for shard in shards for cells in shard.groups()]
    assert sorted(groups) == sorted([p.cell.key for p in cells] for cells in whole.groups())
    # the command of a group takes it whole
    assert "--shard" not in shards[0].repro(shards[0].cells[0])
    with pytest.raises(ConfigError, match=r"^--shard: a share of the 3 groups of cells, got 9/9, .*; take 3 shards at"):
        plan(options(SUITE, shard=Shard(9, 9)))


def test_shards_of_prompts_estimate_their_own(options):
    shards = [plan(options(shard=Shard(number, 2))) for number in (1, 2)]
    passes = [sum(row.passes - 1 for row in shard.kind.estimates()) for shard in shards]
    assert sum(passes) == 20
    assert [f"{n // 2} of 10 prompts" for n in passes] == [shard.said.partition("groups, ")[2] for shard in shards]
    assert "--shard 1/2" in shards[0].repro(shards[0].cells[0])


def test_a_killed_shard_and_one_on_two_ranks_make_the_records_of_one_run(options, console, tmp_path, capsys):
    whole, folders = options(out=tmp_path / "whole"), [tmp_path / "a", tmp_path / "b"]
    run(whole, console)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = ["run", "--suite", whole.suite, "--device", "cpu", "--out"]
    killed = [*stopped(signal.SIGKILL, folders[0] / "samples.jsonl", 7), *words, folders[0], "--shard", "1/2"]
    slurm = {"ID": "4", "MIN": "2", "MAX": "4", "STEP": "2", "COUNT": "2"}
    array = environment | {f"SLURM_ARRAY_TASK_{name}": value for name, value in slurm.items()}
    done = []

    def begin(*arguments, **more):
        done.append(forked(*arguments, **more))

    both = [
        threading.Thread(target=begin, args=(killed, tmp_path), kwargs={"environment": environment}),
        threading.Thread(
            target=begin,
            args=(["-m", "pcbench", *words, folders[1]], tmp_path),
            kwargs={"ranks": 2, "environment": array},
        ),
    ]
    for one in both:
        one.start()
    for one in both:
        one.join()
    by_code = {one.returncode: one for one in done}
    assert set(by_code) == {-signal.SIGKILL, 0}
    assert by_code[0].stderr.startswith("shard 2/2 (SLURM_ARRAY_TASK_ID=4): 2 of 2 groups, 5 of 10 prompts\n")
    assert len(RunFolder(folders[0]).records.read()) == 2
    with pytest.raises(ConfigError) as refused:
        merge(tmp_path / "merged", folders, print)
    expected = rf"merge: shards at their end, got 1/2 in {folders[0]} with 2 of 4 cells; go on with: (.*) --resume"
    again = re.fullmatch(expected, str(refused.value))[1]
    assert again == f"pcbench run --suite {whole.suite} --device cpu --shard 1/2 --out {folders[0]}"
    run(replace(whole, out=folders[0], shard=Shard(1, 2), resume=True), console)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["merge", str(tmp_path / "merged"), *map(str, reversed(folders))])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"4 ok\n{tmp_path / 'merged' / 'report.html'}\n"
    assert left(tmp_path / "merged") == left(whole.out)
    assert {p.name for p in (tmp_path / "merged").iterdir()} == {p.name for p in whole.out.iterdir()} | {"report.html"}
    manifests = [RunFolder(path).manifest for path in (whole.out, tmp_path / "merged")]
    same = ("suite", "settings", "model", "command", "cells", "tasks", "timed", "prompts", "new_tokens")
    assert len({json.dumps([manifest[name] for name in same]) for manifest in manifests}) == 1


def test_merged_groups_are_those_of_one_run(options, console, tmp_path, monkeypatch):
    monkeypatch.setitem(registry.KINDS, "sums", "toy_kind:Toy")
    whole = options(SUMS, out=tmp_path / "whole")
    run(whole, console)
    folders = sharded(whole, 3, console)
    assert [len(read_records(folder)) for folder in folders] == [1, 2, 2]
    merge(tmp_path / "merged", folders, print)
    assert untimed(tmp_path / "merged") == untimed(whole.out)
    assert {record.run for record in read_records(tmp_path / "merged")} == {"merged"}
    assert (tmp_path / "merged" / "samples.jsonl").read_text() == (whole.out / "samples.jsonl").read_text()


def test_averages_are_made_again_of_all_prompts(trained, options, console, tmp_path):
    whole = options(out=tmp_path / "whole")
    run(whole, console)
    merge(tmp_path / "merged", sharded(whole, 2, console), print)
    assert left(tmp_path / "merged") == left(whole.out)
    assert [(r.workload, r.n_samples) for r in read_records(tmp_path / "merged")][-2:] == [("average", 10)] * 2


def test_other_files_than_the_shards_began_with_are_refused(options, console, tmp_path):
    folders = sharded(options(), 2, console)
    options(ANSWERS.replace("new_tokens = 4", "new_tokens = 5"))
    with pytest.raises(ConfigError, match=rf"^merge: suite\.new_tokens 4, with which {folders[0]} began, got 5 here; "):
        merge(tmp_path / "merged", folders, print)
    assert not (tmp_path / "merged").exists()


def test_a_bad_record_is_skipped_as_in_one_run(options, console, tmp_path):
    records = [{"context": f"{i} is {i}. " * 60, "question": f"What is {i}?", "answers": [str(i)]} for i in range(5)]
    for bad in (0, 3):
        del records[bad]["answers"]
    task = tmp_path / "mine.jsonl"
    task.write_text("".join(json.dumps(record) + "\n" for record in records))
    task.with_suffix(".toml").write_text('summary = "mine"\nnew_tokens = 4\n')
    whole = options(ACCURACY.replace("average", "#average"), tasks=[str(task)], out=tmp_path / "whole")
    run(whole, console)
    merge(tmp_path / "merged", sharded(whole, 3, console), print)
    assert left(tmp_path / "merged") == left(whole.out)
    assert [record.skipped_records for record in read_records(tmp_path / "merged")] == [2, 2]


def test_losses_are_those_of_one_run_and_a_shard_may_have_no_window(options, console, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("A text of few words, as it is. " * 6)
    whole = options(TEXT.format(text=text), out=tmp_path / "whole")
    run(whole, console)
    windows = {record.n_samples for record in read_records(whole.out)}
    assert windows == {2}
    folders = sharded(whole, 4, console)
    assert sorted(len(RunFolder(folder).samples.read()) for folder in folders) == [0, 0, 2, 2]
    merge(tmp_path / "merged", folders, print)
    assert left(tmp_path / "merged") == left(whole.out)


@pytest.fixture
def sums(options, console, monkeypatch):
    """Two finished shards of sums, and the options of their run."""
    monkeypatch.setitem(registry.KINDS, "sums", "toy_kind:Toy")
    whole = options(SUMS)
    return whole, sharded(whole, 2, console)


def test_what_is_not_all_of_one_run_is_refused_by_name(sums, options, console, tmp_path):
    whole, (a, b) = sums
    run(replace(whole, out=tmp_path / "whole"), console)
    others = {
        "seed": options(SUMS, out=tmp_path / "c", shard=Shard(2, 2), sets=["suite.rounds=4"]),
        "three": options(SUMS, out=tmp_path / "d", shard=Shard(2, 3)),
    }
    rounds, three = (run(one, console)[0].path for one in others.values())
    manifest = RunFolder(b).manifest
    other_commit = tmp_path / "e"
    other_commit.mkdir()
    RunFolder(other_commit).write_manifest(manifest | {"environment": manifest["environment"] | {"commit": "abc"}})
    commit = re.escape(json.dumps(manifest["environment"]["commit"]))
    refused = {
        (a,): r"all 2 shards, got none of 2/2; give that folder, too",
        (a, b, a): rf"every shard once, got 1/2 in {a} and in {a}; drop one",
        (a, tmp_path / "whole"): rf"folders of pcbench run --shard, got {tmp_path / 'whole'} of a whole run; .*",
        (a, rounds): rf"shards of one run, got suite\.rounds 3 in {a} and 4 in {rounds}; give those of one run",
        (a, three): rf"shards of one run, got shards 2 in {a} and 3 in {three}; give those of one run",
        (a, other_commit): rf'shards of one run, got commit {commit} in {a} and "abc" in {other_commit}; .*',
    }
    for folders, said in refused.items():
        with pytest.raises(ConfigError, match=f"^merge: {said}$"):
            merge(tmp_path / "merged", folders, print)
        assert not (tmp_path / "merged").exists()
    with pytest.raises(ConfigError, match=rf"^merge: a new folder, got {a}, which is there; choose another$"):
        merge(a, [a, b], print)


FAILURES = {
    KeyboardInterrupt(): KeyboardInterrupt,
    DiskFull("disk: room, got none; make room"): DiskFull,
    OSError(13, "not allowed"): ConfigError,
}


@pytest.mark.parametrize(("failure", "told"), FAILURES.items())
def test_a_merge_that_fails_leaves_nothing(sums, tmp_path, monkeypatch, failure, told):
    def fails(_):
        raise failure

    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(RunFolder, "write_csv", fails)
    with pytest.raises(told):
        merge(tmp_path / "merged", sums[1], print)
    assert sorted(tmp_path.iterdir()) == before


def test_resume_goes_on_with_its_own_share_only(sums, options, console):
    whole, (a, _) = sums
    for shard, now in ((None, "1/1"), (Shard(2, 2), "2/2")):
        with pytest.raises(ConfigError, match=rf"^--resume: --shard 1/2, with which {a} began, got {now}; add --shard"):
            run(replace(whole, out=a, shard=shard, resume=True), console)
