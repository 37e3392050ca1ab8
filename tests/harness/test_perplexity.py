"""Perplexity: what a loss is, on which windows it is taken, and runs of the kind."""

import shlex
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import Wrong, make_runner

from pcbench import ops, registry
from pcbench.errors import BadData, ConfigError, DataMissing
from pcbench.harness.kinds.methods import group
from pcbench.harness.kinds.perplexity import loss
from pcbench.harness.kinds.perplexity.loss import BUCKETS, in_buckets, losses_of
from pcbench.harness.runner import Options, plan, run
from pcbench.records import RunFolder, read_records
from pcbench.report import build
from pcbench.tasks.synthetic import documentation
from pcbench.tasks.texts import Text
from pcbench.tasks.windows import Cut
from pcbench.types import no_stages

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


def cut(**changes):
    told = dict(text=Text("suite.text", None, None, "0"), task="ids@0", tokens=120, scored=20, query=10, stride=8)
    return Cut(**(told | dict(windows=4, whole=1, seed=0) | changes))


def window(tokens=120, scored=20, query=10, start_ids=(), whole=True, seed=0):
    ids = np.random.default_rng(seed).integers(0, 300, 4 * tokens)
    made = cut(tokens=tokens, scored=scored, query=query, windows=1, whole=int(whole))
    return made.window(ids, made.begins(len(ids), len(start_ids)), 0, start_ids)


def method(name, runner, **config):
    kind = registry.load(registry.METHODS, "method", name, "test")
    return kind(kind.Config(**config).resolve(runner.spec, "cpu"), runner)


@torch.inference_mode()
def losses(name, runner, one, **config):
    return losses_of(method(name, runner, **config), runner, one)


@torch.inference_mode()
def test_the_loss_of_full_attention_is_that_of_transformers(monkeypatch):
    runner = make_runner()
    # several blocks of logits, the last one shorter
    monkeypatch.setattr(loss, "LOGIT_BYTES", 4 * runner.spec.vocab * 7)
    one = window()
    found = losses("full", runner, one)
    ids = torch.tensor([[*one.context, *one.query, *one.scored]])
    everywhere = runner.model(input_ids=ids, labels=ids).loss
    last = runner.model(input_ids=ids, labels=ids.masked_fill(torch.arange(120) < 100, -100)).loss
    torch.testing.assert_close(found.scored.mean().float(), last, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.whole.mean().float(), everywhere, atol=1e-6, rtol=1e-6)
    assert (len(found.scored), len(found.whole)) == (20, 119)


@pytest.mark.parametrize("start_ids", [(), (256, 257)])
def test_given_tokens_read_after_the_prefill_are_as_in_one_forward(start_ids):
    runner, one = make_runner(), window(start_ids=start_ids)
    full = losses("full", runner, one)
    torch.testing.assert_close(full.scored, full.whole[-20:], atol=2e-5, rtol=1e-5)
    # methods that leave nothing out
    others = {"snapkv": {"tokens": 500}, "h2o": {"tokens": 500, "compress": "context"}, "chai": {"clusters": 1.0}}
    others["parallel_comp"] = {"chunk_tokens": 200, "keep": 1}
    others["dual_chunk"] = {}
    for name, config in others.items():
        found = losses(name, runner, one, **config)
        torch.testing.assert_close(found.scored, full.scored, atol=5e-5, rtol=5e-5, msg=name)
        assert (found.whole is None) == (name != "dual_chunk")


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("dual_chunk", {"trained_tokens": 40}),
        ("dual_chunk", {"trained_tokens": 40, "gain": "yarn"}),
        ("rope_scaling", {"type": "yarn", "factor": 2.0, "trained_tokens": 60}),
    ],
)
def test_positions_that_a_method_changes_give_one_loss_in_two_ways(name, config):
    runner, one = make_runner(), window()
    found = losses(name, runner, one, **config)
    torch.testing.assert_close(found.scored, found.whole[-20:], atol=5e-5, rtol=5e-5)
    assert (found.scored - losses("full", runner, one).scored).abs().max() > 1e-2


def test_a_row_that_depends_on_later_tokens_is_no_loss_by_position():
    runner, one = make_runner(), window()
    for name, config in {
        "dual_chunk": {"trained_tokens": 40, "keep_chunks": 1},
        "rope_scaling": {"type": "dynamic"},
    }.items():
        assert losses(name, runner, one, **config).whole is None


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("parallel_comp", {"chunk_tokens": 32, "keep": 1}),
        ("parallel_comp", {"chunk_tokens": 32, "keep": 2, "calibration": "paper", "evict": {"capacity": 16}}),
        ("snapkv", {"tokens": 40}),
        ("snapkv", {"tokens": 40, "compress": "context"}),
    ],
)
@torch.inference_mode()
def test_given_tokens_read_at_once_are_as_step_by_step(name, config):
    runner, one = make_runner(), window()
    found = losses(name, runner, one, **config)
    assert (found.scored - losses("full", runner, one).scored).abs().max() > 1e-2
    stepped, ours = [], method(name, runner, **config)
    prefilled = ours.prefill(loss.device_prompt(one, runner.device), no_stages)
    logits = prefilled.logits
    for token in torch.tensor(one.scored):
        stepped.append(-logits.log_softmax(-1)[0, token])
        logits = ours.step(prefilled, token[None])
    torch.testing.assert_close(found.scored, torch.stack(stepped).double(), atol=5e-5, rtol=5e-5)


def test_parts_of_a_window_hold_every_token_but_the_first_once():
    whole = torch.arange(99, dtype=torch.float64)
    parts = in_buckets(whole)
    assert len(parts) == BUCKETS
    assert parts == sorted(parts)
    assert in_buckets(whole[:3]) == [0.0, 1.0, 2.0]


def test_windows_are_spread_evenly_and_by_the_seed():
    found = {seed: cut(seed=seed, windows=5).begins(1000, 1) for seed in range(20)}
    for begins in found.values():
        assert len(begins) == 5
        assert all(begin % 8 == 0 and 0 <= begin <= 1000 - 119 for begin in begins)
        steps = np.diff(begins)
        assert steps.min() >= 8 * ((1000 - 119) // 8 + 1) // 5 - 8
        assert steps.max() - steps.min() <= 8
    assert len({tuple(begins) for begins in found.values()}) > 5
    # as many as there are
    assert cut(windows=50).begins(120 + 3 * 8 + 7, 0) == [0, 8, 16, 24]


def test_a_window_is_its_start_ids_context_query_and_scored_tokens():
    ids = np.arange(1000)
    made = cut(windows=50)
    one = made.window(ids, [800, 880], 1, (7, 7))
    assert one.prefix == (7, 7)
    assert one.context + one.query + one.scored == tuple(range(880, 998))
    assert (len(one.query), len(one.scored), one.new_tokens, one.start_tokens) == (10, 20, 20, 2)
    assert one.warnings == ("2 windows, all that the text has at a stride of 8, of 50",)
    (close,) = [text for text in made.window(ids, [8, 16], 0, ()).warnings if "too narrow" in text]
    assert close.startswith("windows score the same tokens")
    assert replace(one, query=one.query[1:], context=one.context + one.query[:1]).sha256 != one.sha256


def test_a_text_that_is_too_short_and_a_window_without_context_are_refused():
    with pytest.raises(BadData, match=r"suite.text: a text of 120 tokens or more, got 119 in documentation; name a lo"):
        cut().begins(119, 0)
    with pytest.raises(ConfigError, match=r"windows of more than 32 tokens, .* got 32; lengthen suite.context_tokens"):
        cut(tokens=32).begins(1000, 2)


@pytest.fixture
def ids_file(tmp_path):
    """Writes ids; the file's text."""

    def write(ids, dtype, told=None, more=b""):
        path = tmp_path / "pg19.bin"
        path.write_bytes(np.asarray(ids, dtype).tobytes() + more)
        return Text.of("suite.token_file", path, told or dtype)

    return write


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_files_of_ids_are_read_in_either_width(ids_file, dtype):
    ids = np.random.default_rng(0).integers(0, 300, 1000)
    text = ids_file(ids, dtype)
    text.check(300, "tiny")
    assert np.array_equal(text.ids(None), ids)
    assert text.name == "pg19.bin"


@pytest.mark.parametrize(
    ("written", "told", "more", "message"),
    [
        ("uint16", "uint32", b"", r"ids below 300, the vocabulary of tiny, got [\d,]+ as uint32; name the type"),
        (
            "uint32",
            "uint16",
            b"",
            r'ids of uint16, got a file that holds ids as uint32, too; set suite.token_dtype = "u',
        ),
        ("uint16", "uint16", b"\x01", r"ids of 2 bytes each \(uint16\), got 2,001 bytes; look at how it was written"),
        ("uint16", "uint16", b"\x2c\x01", r"ids below 300, the vocabulary of tiny, got 300 as uint16"),
    ],
)
def test_a_file_of_other_ids_is_refused_in_one_line(ids_file, written, told, more, message):
    text = ids_file(np.random.default_rng(0).integers(1, 300, 1000), written, told, more)
    with pytest.raises(ConfigError, match=rf"suite.token_file: \S+pg19.bin: {message}") as caught:
        text.check(300, "tiny")
    assert "\n" not in str(caught.value)


def test_an_empty_file_and_one_that_changes_are_refused(ids_file):
    with pytest.raises(ConfigError, match="got 0 bytes"):
        ids_file([], "uint16").check(300, "tiny")
    text = ids_file([1, 2], "uint16")
    ids_file([1, 2, 3], "uint16")
    with pytest.raises(
        BadData, match=r"as it was when the run began \(\w{12}\), got another \(\w{12}\); measure again"
    ):
        text.ids(None)


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
            assert record.nll_vs_full == pytest.approx(np.mean(nll) - full.nll)
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
    monkeypatch.setattr(group.ops, "backend", lambda name: Wrong() if name == "cpu" else real(name))
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
