"""XAttention against a dense forward in float64 whose blocks are chosen by loops over antidiagonals."""

import math

import pytest
import torch
from tiny import continued, make_prompt, make_runner

from pcbench.config import validate
from pcbench.errors import ConfigError
from pcbench.methods.full import Full
from pcbench.methods.sparse_prefill import XAttention, antidiagonals, plan
from pcbench.methods.sparse_prefill.antidiagonals import block_sums, chosen_blocks
from tests.methods.test_parallel_encoding import assert_close, dense, made

STEPS, BLOCK, STRIDE = 3, 8, 4


def plain_sums(scores, tokens, stride, block):
    """[H, N, N] of scores [H, T, T], by loops."""
    blocks, per_block = -(-tokens // block), block // stride
    sums = torch.zeros(len(scores), blocks, blocks, dtype=torch.float64)
    for row in range(-(-tokens // stride)):
        means = []
        for key in range(row + 1):
            pairs = [(row * stride + stride - 1 - a, key * stride + a) for a in range(stride)]
            inside = [scores[:, i, j] for i, j in pairs if max(i, j) < tokens]
            means.append(sum(inside, torch.zeros(len(scores), dtype=torch.float64)) / stride)
        for key, p in enumerate(torch.stack(means, -1).softmax(-1).unbind(-1)):
            sums[:, row // per_block, key // per_block] += p
    return sums


def plain_choice(sums, threshold):
    """[H, N, N] bool, by taking one block after another."""
    chosen = torch.zeros(sums.shape, dtype=torch.bool)
    for head, table in enumerate(sums.tolist()):
        for row, values in enumerate(table):
            taken = {0, row}
            for block in sorted(range(row + 1), key=lambda j: -values[j]):
                if sum(values[j] for j in taken) < threshold * sum(values):
                    taken.add(block)
            chosen[head, row, sorted(taken)] = True
    return chosen


def plain_logits(runner, prompt, tokens, threshold):
    """The prompt's rows see chosen blocks, the answer's everything."""
    ids = torch.cat([prompt.prefix, prompt.context, prompt.query, torch.tensor(tokens)])
    end, i, shares = len(ids) - len(tokens), torch.arange(len(ids)), []

    def attend(scores, values):
        chosen = plain_choice(plain_sums(scores, end, STRIDE, BLOCK), threshold)
        shares.append(chosen.double().mean())
        seen = torch.ones_like(scores, dtype=torch.bool)
        seen[:, :end, :end] = chosen.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)[:, :end, :end]
        return scores.masked_fill(~(seen & (i <= i[:, None])), -math.inf).softmax(-1) @ values

    return dense(runner, ids, i, attend)[-len(tokens) - 1 :], shares


def xattention(runner, threshold):
    return made(XAttention, runner, stride=STRIDE, block_tokens=BLOCK, threshold=threshold)


@pytest.mark.parametrize("gathered", [plan.GATHERED_BYTES, 1])
@pytest.mark.parametrize("context", [78, 79, 84])
def test_blocks_of_queries_read_what_their_antidiagonals_promise(context, gathered, backend, monkeypatch):
    monkeypatch.setattr(plan, "GATHERED_BYTES", gathered)
    runner, prompt = make_runner(backend=backend), make_prompt(context=context, new_tokens=STEPS + 1)
    prefilled, logits, tokens = continued(xattention(runner, 0.7), prompt, STEPS)
    expected, shares = plain_logits(runner, prompt, tokens, 0.7)
    assert_close(logits, expected)
    full = continued(Full(Full.Config(), runner), prompt, STEPS)[1]
    assert (logits - full).norm() > 0.01 * full.norm()
    # of 11 or 12 blocks in a square half are no later, and some of these are left out
    assert max(shares) < 0.54
    assert prefilled.kv_bytes == prefilled.kv_bytes_predicted
    assert prefilled.kv_bytes_prompt == runner.spec.kv_bytes(context + 10, 4)


@pytest.mark.parametrize("context", [0, 3, 78])
def test_all_blocks_are_full_attention(context, backend):
    runner, prompt = make_runner("qwen2", backend=backend), make_prompt(context=context, new_tokens=STEPS + 1)
    full = continued(Full(Full.Config(), runner), prompt, STEPS)[1]
    assert_close(continued(xattention(runner, 1.0), prompt, STEPS)[1], full)


@pytest.mark.parametrize("step", [antidiagonals.STEP_BYTES, 1])
def test_sums_of_a_block_are_those_of_its_antidiagonals(step, monkeypatch):
    monkeypatch.setattr(antidiagonals, "STEP_BYTES", step)
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(heads, 45, 16, generator=generator, dtype=torch.float64) for heads in (6, 2))
    scores = q @ k.repeat_interleave(3, 0).mT * 0.25
    expected = plain_sums(scores, 45, 4, 12)
    found = block_sums(q, k, stride=4, block=12, scale=0.25)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    # a softmax a group of rows, 45 rows are 12 groups
    torch.testing.assert_close(found.sum(2)[0], torch.tensor([3.0, 3.0, 3.0, 3.0]))
    for threshold in (0.3, 0.6, 0.9, 0.99):
        assert torch.equal(chosen_blocks(found, threshold), plain_choice(found.double(), threshold))
    assert torch.equal(chosen_blocks(found, 1.0)[0], torch.ones(4, 4).tril().bool())


def test_sums_of_large_scores_are_no_infinity_in_float16():
    generator = torch.Generator().manual_seed(0)
    # scores of 4608, a sixteenth of what float16 cannot hold
    direction = 6.0 * torch.randn(128, generator=generator).sign()
    q, k = (direction.expand(1, 5 * 32, -1).contiguous() for _ in range(2))
    # one block stands out
    k[:, 32:64] *= 1.05
    q, k = q.half(), k.half()
    scale = 128**-0.5
    found = block_sums(q, k, stride=16, block=32, scale=scale)
    expected = plain_sums(q.double() @ k.double().mT * scale, 160, 16, 32)
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)
    assert found[0, 4, 1] > 1.99
    # what even so is infinite chooses nothing, so everything is read
    found = block_sums(q * 200, k, stride=16, block=32, scale=scale)
    assert torch.equal(chosen_blocks(found, 0.1)[0], torch.ones(5, 5).tril().bool())


def test_presets_and_options():
    spec = make_runner().spec
    found = [XAttention.Config(preset=name).resolve(spec, "cpu") for name in ("paper", "paper-8", None)]
    assert [(c.stride, c.threshold, c.block_tokens) for c in found] == [(16, 0.9, 128), (8, 0.9, 128), (16, 0.9, 128)]
    assert XAttention.Config(preset="paper-8", threshold=0.95).resolve(spec, "cpu").threshold == 0.95
    assert XAttention.Config(preset="paper-8", block_tokens=24).resolve(spec, "cpu").stride == 8
    cost = found[0].cost(spec, 1600).flops - Full.Config().cost(spec, 1600).flops
    assert cost == spec.layers * spec.heads * spec.head_dim * 1600 * 100
    for config, said in (
        ({"stride": 12}, "should be a multiple of stride"),
        ({"preset": "paper", "block_tokens": 24}, "should be a multiple of stride"),
        ({"preset": "paper-8", "stride": 16, "block_tokens": 24}, "should be a multiple of stride"),
        ({"threshold": 1.5}, "less than or equal"),
    ):
        with pytest.raises(ConfigError, match=said) as error:
            validate(XAttention.Config, config, "test")
        assert "\n" not in str(error.value)
