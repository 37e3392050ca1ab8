"""Real processes under torchrun, on one machine."""

import os
import signal
from functools import partial

import pytest
from forked import forked, torchrun
from harness_suite import ACCURACY, SUITE
from stopped import stopped
from tasks.made_records import longbench_record, write

from pcbench.errors import ConfigError, RankLost
from pcbench.harness.processes import ranks
from pcbench.harness.runner import Options, plan
from pcbench.records import RunFolder, read_records

SCORED = ACCURACY.replace("random:tiny", "smollm2-135m").replace("new_tokens = 4", "new_tokens = 6")
# threads that wait without computing, for there may be more of them than cores
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def _command(place, text, out, *extra, program=("-m", "pcbench")):
    path = place / "small.toml"
    path.write_text(text)
    return [*program, "run", "--suite", path, "--device", "cpu", "--out", out, *extra]


@pytest.fixture
def command(tmp_path):
    """A run of a suite, without the interpreter."""
    return partial(_command, tmp_path)


@pytest.fixture
def finish(tmp_path):
    """Runs a command on so many ranks, without torchrun."""
    return partial(forked, place=tmp_path, environment=ENVIRONMENT)


def final(folder):
    return [(r.cell, r.status, r.score, r.score_vs_full, r.parity_ops, r.warnings) for r in read_records(folder)], (
        folder / "samples.jsonl"
    ).read_text()


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """One rank of one thread and two ranks that nobody told their threads: the same two prompts."""
    place = tmp_path_factory.mktemp("scored")
    tasks = ("--set", "suite.tasks=[passkey]", "--set", "suite.prompts=2", "--set", "suite.context_tokens=[200]")
    without = {name: value for name, value in ENVIRONMENT.items() if name != "OMP_NUM_THREADS"}
    for name, start, environment in (("one", partial(forked, place=place), ENVIRONMENT), ("ranks", torchrun, without)):
        done = start(_command(place, SCORED, place / name, *tasks), environment=environment)
        assert done.returncode == 0, done.stderr
    return place


def test_two_ranks_leave_what_one_leaves(scored):
    assert final(scored / "one") == final(scored / "ranks")
    assert all(r.n_samples == 2 for r in read_records(scored / "ranks"))
    assert max(r.score for r in read_records(scored / "ranks")) > 0
    left = {path.name for path in (scored / "ranks").iterdir()}
    assert left == {"manifest.json", "records.jsonl", "records.csv", "samples.jsonl", "report.html"}
    # torchrun gives every rank one where nothing else is said
    assert RunFolder(scored / "ranks").manifest["environment"]["threads"] == 1


def test_two_ranks_keep_and_skip_the_records_that_one_does(command, finish, tmp_path):
    """Records whose difference was cut out with the middle ask the same, and one is bad."""
    noise = "It was cold. " * 60
    made = [longbench_record(f"{noise}It is {i}.{noise}") | {"answers": [str(i)]} for i in range(5)]
    write(tmp_path / "data", "longbench/qasper", [made[0] | {"length": "long"}, *made])
    data = ("--set", f"data.dir={tmp_path / 'data'}", "--set", "suite.tasks=[longbench/qasper]")
    sets = (*data, "--set", "suite.context_tokens=[600]", "--set", "suite.prompts=6")
    for number in (1, 2):
        done = finish(command(ACCURACY, tmp_path / str(number), *sets), ranks=number)
        assert done.returncode == 1, done.stderr
    assert final(tmp_path / "1") == final(tmp_path / "2")
    samples = RunFolder(tmp_path / "2").samples.read()
    assert [(s.index, s.answers) for s in samples] == [(i + 1, [str(i)]) for i in range(5)] * 2
    assert len({s.prompt_sha256 for s in samples}) == 1
    assert {r.skipped_records for r in read_records(tmp_path / "2")} == {1}


def test_ranks_with_other_threads_take_the_same_prompts_to_the_same_answers(command, finish, tmp_path):
    """Sums of other threads differ in their last bits; all but those bits is promised."""
    for number, threads in ((1, "2"), (2, "1")):
        words = command(ACCURACY, tmp_path / threads, "--set", "suite.tasks=[passkey]")
        done = finish(words, ranks=number, environment=ENVIRONMENT | {"OMP_NUM_THREADS": threads})
        assert done.returncode == 0, done.stderr
    alone, shared = (RunFolder(tmp_path / threads) for threads in "21")
    assert [folder.manifest["environment"]["threads"] for folder in (alone, shared)] == [2, 1]
    assert all(folder.manifest["starts"][-1]["took_s"] > 0 for folder in (alone, shared))
    assert [{r.runtime for r in folder.records.read()} for folder in (alone, shared)] == [{"2 threads"}, {"1 thread"}]

    def same(folder):
        return [(s.cell, s.id, s.prompt_sha256, s.prediction, s.kept_chunks, s.tokens) for s in folder.samples.read()]

    assert same(alone) == same(shared)
    for one, other in zip(alone.samples.read(), shared.samples.read(), strict=True):
        # full attention has no chunks
        assert (one.chunk_scores or []) == pytest.approx(other.chunk_scores or [], rel=1e-4)
    for one, other in zip(alone.records.read(), shared.records.read(), strict=True):
        assert (other.cell, other.status, other.warnings) == (one.cell, one.status, one.warnings)


def test_a_killed_rank_ends_the_run_with_one_line_and_it_resumes(command, finish, tmp_path):
    many = ("--set", "suite.prompts=20")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert finish(command(ACCURACY, whole, *many)).returncode == 0
    lines = RunFolder(broken, rank=1).samples
    killed = torchrun(
        command(ACCURACY, broken, *many, program=stopped(signal.SIGKILL, lines.path, 6, rank=1)), ENVIRONMENT
    )
    assert killed.returncode == 1
    told = [line for line in killed.stderr.splitlines() if "every rank until the end" in line]
    assert len(told) == 1
    assert (
        f"what was finished is in {broken}, go on with: torchrun --nproc-per-node=2 --no-python pcbench run" in told[0]
    )
    assert "Traceback" not in killed.stderr.partition(told[0])[0]
    assert len(lines.read()) == 6
    done = finish(command(ACCURACY, broken, *many, "--resume"))
    assert done.returncode == 0, done.stderr
    assert not lines.path.exists()
    assert final(broken) == final(whole)


def test_groups_of_other_suites_are_whole_on_one_rank(command, finish, tmp_path):
    done = finish(command(SUITE, tmp_path / "run", "--limit", "1", "--method", "full"), ranks=2)
    assert done.returncode == 0, done.stderr
    folder = RunFolder(tmp_path / "run")
    assert [(r.cell, r.status) for r in folder.records.read()] == [(c, "ok") for c in folder.manifest["cells"]]
    assert [s.cell for s in folder.samples.read()] == folder.manifest["cells"]
    for record in folder.records.read():
        timed = record.ms_p50 is not None
        assert ("timed beside 1 other ranks on this CPU" in record.warnings) == timed


def test_ranks_share_a_method_of_the_working_folder(command, finish, tmp_path):
    (tmp_path / "loose_rank_method.py").write_text("from pcbench.methods.full import Full\nclass Loose(Full): pass\n")
    narrow = ("--method", "loose_rank_method:Loose", "--limit", "1", "--set", "suite.tasks=[passkey]")
    # as of installed programs, the first folder of modules is not the working folder
    done = finish(command(ACCURACY, tmp_path / "run", *narrow), ranks=2, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (record,) = read_records(tmp_path / "run")
    assert (record.method, record.status) == ("loose_rank_method:Loose", "ok")
    assert len(RunFolder(tmp_path / "run").samples.read()) == 1


def test_an_error_of_the_plan_is_said_once(command, finish, tmp_path):
    done = finish(command(ACCURACY, tmp_path / "run", "--set", "suite.tasks=[paskey]"), ranks=2)
    assert done.returncode == 1
    assert done.stderr.count('unknown task "paskey"; did you mean "passkey"?') == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_shares_are_all_items_each_once(number, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", str(number))
    found = []
    for rank in range(number):
        monkeypatch.setenv("RANK", str(rank))
        found += ranks.share(range(5))
    assert sorted(found) == [0, 1, 2, 3, 4]


def test_isolation_of_an_accuracy_suite_is_for_one_rank(tmp_path, monkeypatch):
    path = tmp_path / "small.toml"
    path.write_text(ACCURACY)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="--isolate: a suite of kind accuracy on one rank, got 2 ranks"):
        plan(Options(suite=str(path), device="cpu", isolate=True))


@pytest.mark.parametrize(
    ("visible", "local", "own"), [(None, "1", "1"), ("4,6", "1", "6"), ("4", "1", ""), ("", "0", ""), ("", "1", "")]
)
def test_a_rank_sees_one_gpu_or_none(visible, local, own, gpus_seen):
    assert gpus_seen(local, None, CUDA_VISIBLE_DEVICES=visible) == {"CUDA_VISIBLE_DEVICES": own}


@pytest.mark.parametrize(
    ("hip", "cuda", "seen"),
    [
        (None, None, {"HIP_VISIBLE_DEVICES": "1"}),
        ("4,6", None, {"HIP_VISIBLE_DEVICES": "6"}),
        ("4,6", "0,2", {"HIP_VISIBLE_DEVICES": "6", "CUDA_VISIBLE_DEVICES": "0,2"}),
        (None, "0,2", {"CUDA_VISIBLE_DEVICES": "2"}),
        ("", "0,2", {"HIP_VISIBLE_DEVICES": "", "CUDA_VISIBLE_DEVICES": "0,2"}),
        (None, "", {"CUDA_VISIBLE_DEVICES": ""}),
    ],
)
def test_a_rank_on_amd_sees_one_gpu_by_the_variable_that_is_set(hip, cuda, seen, gpus_seen):
    assert gpus_seen("1", "7.0", HIP_VISIBLE_DEVICES=hip, CUDA_VISIBLE_DEVICES=cuda) == seen


@pytest.fixture
def gpus_seen(monkeypatch):
    """The variables that hide GPUs, once a rank has made itself see its own."""
    names = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")

    def see(local, hip, **visible):
        monkeypatch.setattr(ranks.torch.version, "hip", hip)
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
        monkeypatch.setenv("LOCAL_RANK", local)
        for name in names:
            # set first, so that what the rank sets is taken back after the test
            monkeypatch.setenv(name, "")
            os.environ.pop(name) if visible.get(name) is None else os.environ.update({name: visible[name]})
        ranks._see_one_gpu()
        return {name: os.environ[name] for name in names if name in os.environ}

    return see


def test_the_command_says_how_to_start_as_many_ranks(monkeypatch):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    command = Options(suite="prefill").command
    alone = "pcbench run --suite prefill --device auto"
    assert command() == alone
    monkeypatch.setenv("WORLD_SIZE", "16")
    assert command() == f"torchrun --nproc-per-node=16 --no-python {alone}"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    nodes = "--nproc-per-node=8 --nnodes=2 --rdzv-backend=c10d --rdzv-endpoint"
    assert command() == f"torchrun {nodes}=HOST:29400 --no-python {alone}"
    monkeypatch.setenv("MASTER_ADDR", "node0")
    assert command() == f"torchrun {nodes}=node0:29400 --no-python {alone}"


def lost_while_torchrun_ends_this_rank():
    try:
        raise RankLost("the first")
    finally:
        signal.raise_signal(signal.SIGTERM)


def test_a_second_notice_does_not_disturb_the_first():
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(RankLost, match="every rank until the end"):
            ranks._ended()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        signal.signal(signal.SIGTERM, ranks._ended)
        with pytest.raises(RankLost, match="the first"):
            lost_while_torchrun_ends_this_rank()
    finally:
        signal.signal(signal.SIGTERM, before)
