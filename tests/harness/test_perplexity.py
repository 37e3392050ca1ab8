"""Runs of perplexity: records, the report, resumes and what is refused."""

import shlex
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tiny import Wrong

from pcbench import ops, registry
from pcbench.errors import ConfigError, DataMissing
from pcbench.harness.kinds.methods import group
from pcbench.harness.kinds.perplexity.loss import BUCKETS
from pcbench.harness.runner import Options, plan, run
from pcbench.records import RunFolder, read_records
from pcbench.report import build
from pcbench.tasks.synthetic import documentation

pytestmark = pytest.mark.usefixtures("one_thread")

SUITE = """
# A suite of perplexity for tests.
[suite]
kind = "perplexity"
prompts = 6
stride = 40
scored_tokens = 40
query_tokens = 16
whole_windows = 2
context_tokens = [200, 300]
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
[[cell]]
method = "snapkv"
[cell.config]
tokens = 48
"""
CELLS = 6


@pytest.fixture
def options(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SUITE)
    return lambda **changes: Options(**(dict(suite=str(path), device="cpu", out=tmp_path / "run") | changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, console):
    place = tmp_path_factory.mktemp("finished")
    (place / "small.toml").write_text(SUITE)
    folder, _ = run(Options(suite=str(place / "small.toml"), device="cpu", out=place / "run"), console)
    return folder


def test_a_record_holds_the_loss_its_interval_and_the_difference_to_full(finished):
    records = read_records(finished.path)
    assert [(r.kind, r.status, r.workload, r.n_samples, r.scored_tokens, r.score) for r in records] == [
        ("perplexity", "ok", "documentation, last 40", 6, 40, None)
    ] * CELLS
    samples = {}
    for sample in finished.samples.read():
        samples.setdefault(sample.cell, []).append(sample)
    for record in records:
        nll = [s.nll for s in samples[record.cell]]
        assert record.nll == pytest.approx(np.mean(nll))
        assert record.perplexity == pytest.approx(np.exp(np.mean(nll)))
        assert record.nll_ci_low < record.nll < record.nll_ci_high
        full = next(r for r in records if r.group == record.group and r.is_full)
        if record is full:
            assert (record.nll_vs_full, len(record.nll_by_position)) == (None, BUCKETS)
            assert sum(s.nll_by_position is not None for s in samples[record.cell]) == 2
        else:
            theirs = {s.id: s.nll for s in samples[full.cell]}
            pairs = [s.nll - theirs[s.id] for s in samples[record.cell]]
            # less is rounding
            assert record.nll_vs_full == pytest.approx(np.mean([x if abs(x) >= 1e-4 else 0 for x in pairs]))
            assert record.nll_vs_full_ci_low <= record.nll_vs_full <= record.nll_vs_full_ci_high
            assert (record.nll_vs_full_pairs, record.nll_by_position) == (6, None)
            assert record.parity_err <= record.parity_bound
        assert record.warnings == ["random weights: their loss says nothing of a model"]
    ours = next(r for r in records if r.method == "parallel_comp")
    assert (ours.chunks, ours.chunks_kept, ours.kept_tokens) == (3, 1, 48)
    assert next(r for r in records if r.method == "snapkv").kept_tokens == 48


def test_every_cell_of_a_length_reads_the_same_windows(finished):
    hashes = {}
    for sample in finished.samples.read():
        hashes.setdefault(sample.cell, []).append(sample.prompt_sha256)
    assert len(hashes) == CELLS
    assert len(set(map(tuple, hashes.values()))) == 2


def test_both_lengths_score_the_same_tokens(finished):
    whole = {s.id.rpartition("/")[0]: [] for s in finished.samples.read()}
    for sample in finished.samples.read():
        task, tokens, begin = sample.id.rsplit("/", 2)
        whole[f"{task}/{tokens}"].append(int(tokens) + int(begin))
    short, long = whole.values()
    assert short == long
    assert len(set(short)) == 6


def test_the_report_shows_perplexity_differences_and_positions(finished):
    page = build([finished.path]).read_text()
    text = " ".join(page.split())
    for said in ("Perplexity", "Loss minus full attention", "Loss by position", "nats a token", "6 windows pair by"):
        assert said in text
    assert "position in the window, tokens" in page


def test_repro_command_measures_the_same_group_again(finished):
    words = shlex.split(read_records(finished.path)[3].repro_command)
    sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    again = plan(Options(suite=words[3], device="cpu", sets=sets))
    assert [p.cell.key for p in again.cells] == [r.cell for r in read_records(finished.path)[3:]]
    # windows of either length end where those of the longest do
    shorter = shlex.split(read_records(finished.path)[0].repro_command)
    sets = [shorter[i + 1] for i, word in enumerate(shorter) if word == "--set"]
    cut = plan(Options(suite=shorter[3], device="cpu", sets=sets)).cells[0].task
    assert (cut.tokens, cut.longest) == (200, 300)


def test_a_run_resumes_inside_a_group(options, console, finished):
    here = options()
    shutil.copytree(finished.path, here.out)
    left = RunFolder(here.out)
    # the first group whole, the second begun
    before = left.samples.read()[:25]
    left.records.replace(left.records.read()[:3])
    marked = replace(before[-1], nll=0.5)
    left.samples.replace([*before[:-1], marked])
    _, records = run(replace(here, resume=True), console)
    after, whole = left.samples.read(), finished.samples.read()
    assert marked in after
    assert [(s.cell, s.index, s.prompt_sha256) for s in after] == [(s.cell, s.index, s.prompt_sha256) for s in whole]
    others = [(ours.nll, theirs.nll) for ours, theirs in zip(after, whole, strict=True) if ours != marked]
    assert [ours for ours, _ in others] == pytest.approx([theirs for _, theirs in others], abs=1e-5)
    assert [r.status for r in records] == ["ok"] * CELLS


def test_a_cell_that_fails_parity_has_no_loss(options, console, monkeypatch):
    real = ops.backend
    monkeypatch.setattr(group.ops, "backend", lambda name, *_: Wrong() if name == "cpu" else real(name))
    folder, records = run(options(limit=1, sets=["suite.context_tokens=[200]"]), console)
    assert [(r.method, r.status, r.nll is None) for r in records] == [
        ("full", "ok", False), ("parallel_comp", "parity_failed", True), ("snapkv", "parity_failed", True),
    ]  # fmt: skip
    assert {s.cell for s in folder.samples.read()} == {records[0].cell}


def test_a_method_that_cannot_read_given_tokens_is_left_out_and_says_so(options, console, monkeypatch):
    monkeypatch.setitem(registry.METHODS, "broken", "tiny:Broken")
    sets = ["suite.context_tokens=[200]", "cell.broken.backend=reference", "cell.broken.how=refuses"]
    _, records = run(options(limit=1, methods=("full", "broken"), sets=sets), console)
    assert [r.status for r in records] == ["ok", "unsupported"]
    assert records[1].reason.startswith("broken: a method that reads given tokens behind its prefill, got one without")


def test_a_text_of_ones_own(options, console, tmp_path):
    (tmp_path / "mine.txt").write_text("It was cold. " * 20)
    sets = [f"suite.text={tmp_path / 'mine.txt'}", "suite.context_tokens=[200]"]
    _, records = run(options(limit=2, sets=sets, methods=("full",)), console)
    assert [(r.status, r.workload, r.n_samples) for r in records] == [("ok", "mine.txt, last 40", 2)]
    (tmp_path / "mine.txt").write_text("It was cold.")
    _, records = run(options(limit=2, sets=sets, methods=("full",), out=tmp_path / "short"), console)
    assert [r.status for r in records] == ["error"]
    assert "suite.text: a text of 200 tokens or more, got 12 in mine.txt; name a longer one" in records[0].reason


def test_a_model_beyond_its_training_says_so(options, console):
    sets = ["suite.context_tokens=[2100]", "suite.whole_windows=0"]
    _, records = run(options(limit=1, sets=sets, methods=("full",)), console)
    assert "2100 positions, trained on 2048" in records[0].warnings


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["suite.scored_tokens=0"], r"suite.scored_tokens: input should be greater than 0"),
        (["suite.whole_windows=-1"], r"suite.whole_windows: input should be greater than or equal to 0"),
        (["suite.stride=nan"], r"suite.stride: input should be a valid integer"),
        (["suite.scored=8"], r'unknown name "scored"'),
        (["suite.context_tokens=[56]"], r"suite.context_tokens: more than the 56 of scored_tokens and query_tokens"),
        (["suite.longest_tokens=250"], r"suite.longest_tokens: at least the 300 of context_tokens, got 250; raise it"),
        (["suite.text=a", "suite.token_file=b"], r"suite: text or token_file, got both; leave one out"),
        (["suite.token_file=b"], r"suite.token_dtype: uint16 or uint32 with token_file, got none; name the type"),
        (["suite.token_dtype=uint16"], r"suite.token_dtype: only with token_file, got uint16; leave it out"),
        (["suite.token_file=b", "suite.token_dtype=int16"], r"suite.token_dtype: input should be 'uint16' or 'uint32'"),
        (["suite.text=/dev/zero"], r"suite.text: /dev/zero: a plain file, got a device; name a plain file"),
        (["suite.text=/"], r"suite.text: /: a plain file, got a folder"),
        (["workload.text.prompts=3"], r'unknown name "text"'),
        (["data.dir=/"], r"no --set data.dir, got /; name a text by --set suite.text=FILE"),
    ],
)
def test_plan_says_what_is_wrong_in_one_line(options, sets, message):
    with pytest.raises(ConfigError, match=message) as caught:
        plan(options(sets=sets))
    assert "\n" not in str(caught.value)


def test_a_text_that_is_not_here_stops_the_run(options, monkeypatch):
    with pytest.raises(DataMissing, match=r"suite.text: \S+nothing.txt: a file, got No such file or directory"):
        plan(options(sets=["suite.text=nothing.txt"]))
    monkeypatch.setattr(documentation, "import_module", _absent)
    documentation.lines.cache_clear()
    with pytest.raises(DataMissing, match=r"install the whole library, or name a file of text by \S+ suite.text"):
        plan(options())


def _absent(name):
    raise ModuleNotFoundError(name)
