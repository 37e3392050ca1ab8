"""Star Attention and APE against one dense forward in float64 that states their formulas by masks and powers."""

import math
from dataclasses import replace

import pytest
import torch
from tiny import continued, make_prompt, make_runner
from transformers import AttentionInterface

from pcbench.config import validate
from pcbench.errors import ConfigError
from pcbench.methods.full import Full
from pcbench.methods.parallel_encoding import APE, StarAttention, blocks
from pcbench.models import interface
from pcbench.types import no_stages

STEPS = 4


def made(kind, runner, **config):
    return kind(kind.Config(**config).resolve(runner.spec, "cpu"), runner)


@torch.inference_mode()
def dense(runner, ids, positions, attend):
    """Logits [T, V] of a forward in float64 whose attention is `attend(scores, values)` [H, T, D] of [H, T, T]."""

    def wide(module, query, key, value, _mask, **_):
        group = query.shape[1] // key.shape[1]
        k, v = (x[0].double().repeat_interleave(group, 0) for x in (key, value))
        scores = query[0].double() @ k.transpose(1, 2) * runner.spec.scale
        return attend(scores, v).to(query.dtype).transpose(0, 1)[None], None

    AttentionInterface.register("plain", wide)
    with interface.attention(runner.model, "plain"):
        return runner.model(ids[None], position_ids=positions[None]).logits[0]


def softmax_over(seen):
    return lambda scores, values: scores.masked_fill(~seen, -math.inf).softmax(-1) @ values


def star_logits(runner, prompt, tokens, block, anchor):
    """A row of the text sees the anchor and its own block, a row behind it everything before itself."""
    ids = torch.cat([prompt.prefix, prompt.context, prompt.query, torch.tensor(tokens)])
    text, i = len(prompt.prefix) + len(prompt.context), torch.arange(len(ids))
    seen = (i < anchor) | (i // block == i[:, None] // block) | (i[:, None] >= text)
    return dense(runner, ids, i, softmax_over(seen & (i <= i[:, None])))[-len(tokens) - 1 :]


def ape_logits(runner, prompt, tokens, spans, temperature, scale):
    """Contexts at the same positions; rows behind them weigh these by the power S of their sum at temperature T."""
    tail = torch.cat([prompt.query, torch.tensor(tokens)])
    ids = torch.cat([prompt.prefix, prompt.context, tail])
    prefix, end = len(prompt.prefix), len(prompt.prefix) + len(prompt.context)
    i, owner, positions = torch.arange(len(ids)), torch.full((len(ids),), -1), torch.arange(len(ids))
    for number, (a, b) in enumerate(spans):
        owner[prefix + a : prefix + b] = number
        positions[prefix + a : prefix + b] = prefix + torch.arange(b - a)
    positions[end:] = prefix + max(b - a for a, b in spans) + torch.arange(len(tail))
    causal = i <= i[:, None]
    inside = causal & ((owner == owner[:, None]) | (i < prefix))

    def attend(scores, values):
        out = softmax_over(inside)(scores, values)
        rows, contexts, others = scores[:, end:], owner >= 0, causal[end:] & (owner < 0)
        sharp = (rows[..., contexts] / temperature).exp()
        plain = rows.exp() * others
        power = sharp.sum(-1, keepdim=True) ** scale
        total = power + plain.sum(-1, keepdim=True)
        tempered = sharp / sharp.sum(-1, keepdim=True) @ values[:, contexts]
        out[:, end:] = (power * tempered + plain @ values) / total
        return out

    return dense(runner, ids, positions, attend)[-len(tokens) - 1 :]


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-5)


STARS = [
    ({}, 11, 11),
    ({"block_tokens": 7}, 7, 7),
    ({"block_tokens": 7, "anchor_tokens": 2}, 7, 2),
    ({"blocks": 5, "anchor_tokens": 0}, 9, 0),
]


@pytest.mark.parametrize(("config", "block", "anchor"), STARS)
@pytest.mark.parametrize("at_once", [8192, 15])
def test_star_attention_is_blocks_behind_an_anchor(config, block, anchor, at_once, backend, monkeypatch):
    monkeypatch.setattr(blocks, "AT_ONCE", at_once)
    runner, prompt = make_runner(backend=backend), make_prompt(new_tokens=STEPS + 1)
    prefilled, logits, tokens = continued(made(StarAttention, runner, **config), prompt, STEPS)
    assert_close(logits, star_logits(runner, prompt, tokens, block, anchor))
    assert prefilled.kv_bytes == prefilled.kv_bytes_predicted == runner.spec.kv_bytes(50 + STEPS + 1, 4)
    assert prefilled.kv_bytes_prompt == runner.spec.kv_bytes(50, 4)
    assert prefilled.kept_tokens() == 43


def test_an_anchor_that_is_cut_to_a_block_is_said(backend):
    prompt = make_prompt(new_tokens=STEPS + 1)

    def said(**config):
        runner = make_runner(backend=backend)
        return continued(made(StarAttention, runner, **config), prompt, STEPS)[0].warnings

    assert said(anchor_tokens=12) == ["anchor_tokens 12 cut to 11, a block"]
    # a whole block, none, and one block, which needs no anchor
    for config in ({"anchor_tokens": 11}, {"anchor_tokens": 0}, {}, {"blocks": 1, "anchor_tokens": 4096}):
        assert said(**config) == []


CONTEXTS = [(0, 13), (13, 26), (26, 40)]


@pytest.mark.parametrize(("temperature", "scale"), [(0.9, 0.9), (0.5, 0.7), (1.0, 1.0)])
def test_ape_weighs_contexts_by_temperature_and_power(temperature, scale, backend):
    runner, prompt = make_runner(backend=backend), make_prompt(new_tokens=STEPS + 1)
    method = made(APE, runner, chunk_tokens=14, temperature=temperature, scale=scale)
    prefilled, logits, tokens = continued(method, prompt, STEPS)
    assert_close(logits, ape_logits(runner, prompt, tokens, CONTEXTS, temperature, scale))
    assert prefilled.kv_bytes == prefilled.kv_bytes_predicted


@pytest.mark.parametrize(("prefix", "spans"), [(0, CONTEXTS), (3, [(0, 4), (4, 24), (24, 24), (24, 40)])])
def test_ape_takes_given_contexts_and_needs_no_prefix(prefix, spans, backend):
    runner = make_runner("qwen2", backend=backend)
    prompt = replace(make_prompt(prefix=prefix, new_tokens=STEPS + 1), spans=spans)
    _, logits, tokens = continued(made(APE, runner), prompt, STEPS)
    assert_close(logits, ape_logits(runner, prompt, tokens, spans, 0.9, 0.9))


@pytest.mark.parametrize(
    ("kind", "config", "several"),
    [
        (StarAttention, {"blocks": 1}, {"blocks": 4}),
        # what stands before the second of two blocks is its anchor
        (StarAttention, {"blocks": 2}, {"blocks": 3}),
        (StarAttention, {"block_tokens": 43}, {"block_tokens": 12}),
        (APE, {"temperature": 1.0, "scale": 1.0}, {"chunk_tokens": 20}),
    ],
)
def test_one_block_is_full_attention_and_several_are_not(kind, config, several, backend):
    runner, prompt = make_runner(backend=backend), make_prompt(new_tokens=STEPS + 1)
    _, full, _ = continued(Full(Full.Config(), runner), prompt, STEPS)
    _, logits, _ = continued(made(kind, runner, **config), prompt, STEPS)
    assert_close(logits, full)
    other = continued(made(kind, runner, **config | several), prompt, STEPS)[1]
    assert (other - full).norm() > 0.01 * full.norm()


@pytest.mark.parametrize("kind", [StarAttention, APE])
@pytest.mark.parametrize(("prefix", "context", "query"), [(0, 0, 5), (3, 0, 5), (0, 1, 1), (2, 1, 0)])
def test_prompts_without_a_part_are_read(kind, prefix, context, query):
    runner, prompt = make_runner(), make_prompt(prefix, context, query, new_tokens=STEPS + 1)
    config = {"blocks": 2} if kind is StarAttention else {"temperature": 1.0, "scale": 1.0}
    _, full, _ = continued(Full(Full.Config(), runner), prompt, STEPS)
    assert_close(continued(made(kind, runner, **config), prompt, STEPS)[1], full)


def test_presets_and_sizes():
    spec = make_runner(trained_tokens=512).spec
    found = APE.Config(preset="released").resolve(spec, "cpu")
    assert (found.temperature, found.scale, found.chunk_tokens) == (0.9, 0.81, 7500)
    assert APE.Config(preset="released", scale=1.0).resolve(spec, "cpu").scale == 1.0
    assert APE.Config().resolve(spec, "cpu").chunk_tokens == 448
    star = StarAttention.Config().resolve(spec, "cpu")
    assert (star.blocks, star.block(16384), star.anchor(16384), star.anchor(3)) == (4, 4096, 4096, 1)
    for kind, config, said in (
        (StarAttention, {"blocks": 2, "block_tokens": 8}, "blocks and block_tokens cannot both be given"),
        (StarAttention, {"block_tokens": 8, "anchor_tokens": 9}, "anchor_tokens at most block_tokens"),
        (APE, {"temperature": 0.0}, "temperature: input should be greater than 0"),
    ):
        with pytest.raises(ConfigError, match=said) as error:
            validate(kind.Config, config, "test")
        assert "\n" not in str(error.value)


def test_costs_count_the_pairs_that_are_seen():
    spec = make_runner().spec
    pair = 4 * spec.layers * spec.heads * spec.head_dim
    attention = lambda kind, tokens, **config: (  # noqa: E731
        kind.Config(**config).resolve(spec, "cpu").cost(spec, tokens).flops - Full.Config().cost(spec, 0).flops
        - 2.0 * (spec.parameters - spec.outer_parameters) * tokens
    ) / pair  # fmt: skip
    assert attention(StarAttention, 400) == 4 * 100**2 / 2 + 3 * 100 * 100
    assert attention(StarAttention, 400, anchor_tokens=10) == 4 * 100**2 / 2 + 3 * 100 * 10
    assert attention(StarAttention, 400, blocks=1) == 400**2 / 2
    assert attention(APE, 400, chunk_tokens=200) == 2 * 200**2 / 2


def test_positions_beyond_training_are_a_warning():
    runner, prompt = make_runner(trained_tokens=40), make_prompt()
    assert made(StarAttention, runner).prefill(prompt, no_stages).warnings == ["54 positions, trained on 40"]
    # three contexts of 13 or 14 tokens behind a prefix of 3, a query of 7 and an answer of 4
    assert made(APE, runner, chunk_tokens=14).prefill(prompt, no_stages).warnings == []
