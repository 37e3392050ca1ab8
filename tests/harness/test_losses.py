"""Losses of perplexity: what a loss is, on which windows it is taken, and of which texts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import make_runner

from pcbench import registry
from pcbench.errors import BadData, ConfigError
from pcbench.harness.kinds.perplexity import loss
from pcbench.harness.kinds.perplexity.loss import BUCKETS, in_buckets, losses_of
from pcbench.tasks.texts import Text
from pcbench.tasks.windows import Cut
from pcbench.types import no_stages

pytestmark = pytest.mark.usefixtures("one_thread")


def cut(**changes):
    told = dict(text=Text("suite.text", None, None, "0"), task="ids@0", tokens=120, scored=20, query=10, stride=8)
    made = told | dict(windows=4, whole=1, seed=0) | changes
    return Cut(**(dict(longest=made["tokens"]) | made))


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
    others["star_attention"] = {"blocks": 2}
    others["xattention"] = {"threshold": 1.0, "stride": 4, "block_tokens": 16}
    others["ape"] = {"chunk_tokens": 200, "temperature": 1.0, "scale": 1.0}
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
        ("star_attention", {}),
        ("ape", {"chunk_tokens": 30}),
        ("xattention", {"threshold": 0.3, "stride": 4, "block_tokens": 8}),
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


def test_windows_of_every_length_score_the_same_tokens():
    ids, ends = np.arange(5000), []
    for tokens in (40, 120, 1000):
        made = cut(tokens=tokens, longest=1000, windows=6)
        begins = made.begins(len(ids), 2)
        windows = [made.window(ids, begins, i, (7, 7)) for i in range(6)]
        assert {len(one.prefix + one.context + one.query + one.scored) for one in windows} == {tokens}
        ends.append([one.query + one.scored for one in windows])
    assert ends[0] == ends[1] == ends[2]
    assert len(set(ends[0])) == 6
    with pytest.raises(BadData, match="a text of 998 tokens or more, got 997"):
        cut(tokens=40, longest=1000).begins(997, 2)


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
