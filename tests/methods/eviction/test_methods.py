"""Every eviction method: a budget that holds the prompt is full attention, another stores what it says."""

import pytest
import torch

from pcbench.errors import ConfigError
from pcbench.methods.full import Full
from pcbench.registry import METHODS, load
from pcbench.types import no_stages
from tests.tiny import make_prompt, make_runner

METHODS_OF_POLICIES = [
    "snapkv", "pyramidkv", "adakv", "h2o", "streaming_llm", "tova", "knorm", "keydiff", "expected_attention",
    "random_tokens", "recent_only",
]  # fmt: skip
HEADS = {1: (2, 2), 3: (3, 1), 8: (8, 1)}


def make(name, runner, **values):
    method = load(METHODS, "method", name, "")
    config = method.Config(**values).resolve(runner.spec, "cpu")
    return method(config, runner)


def answered(method, prompt, steps=6):
    """Logits of the first tokens of an answer, each step reading the same random token."""
    prefilled = method.prefill(prompt, no_stages)
    logits = [prefilled.logits]
    for token in range(steps):
        logits.append(method.step(prefilled, torch.tensor([token * 7 % 300])))
    return torch.cat(logits), prefilled


@pytest.mark.parametrize("group", HEADS)
@pytest.mark.parametrize("name", METHODS_OF_POLICIES)
@pytest.mark.parametrize("compress", ["prompt", "context"])
def test_a_budget_that_holds_the_prompt_is_full_attention(name, group, compress):
    heads, kv_heads = HEADS[group]
    runner = make_runner(num_attention_heads=heads, num_key_value_heads=kv_heads)
    prompt = make_prompt(context=60, new_tokens=8)
    ours, prefilled = answered(make(name, runner, tokens=200, compress=compress), prompt)
    truth, _ = answered(Full(Full.Config(), runner), prompt)
    torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-4)
    assert prefilled.kv_bytes == prefilled.kv_bytes_predicted
    assert ours.argmax(-1).tolist() == truth.argmax(-1).tolist()


@pytest.mark.parametrize("name", METHODS_OF_POLICIES)
@pytest.mark.parametrize("compress", ["prompt", "context"])
def test_what_is_stored_is_what_was_promised(name, compress):
    runner = make_runner(backend="cpu")
    prompt = make_prompt(context=150, new_tokens=8)
    method = make(name, runner, tokens=48, compress=compress)
    _, prefilled = answered(method, prompt)
    store = prefilled.state.store
    per_layer = [int(x.sum()) for x in (store.lengths if not method.config.policy(runner.spec, 48).decoding else [])]
    assert prefilled.kv_bytes == prefilled.kv_bytes_predicted == store.nbytes()
    # the keys of streaming_llm's four sinks are stored twice
    of_prompt = 48 + (7 if compress == "context" else 0)
    assert prefilled.kv_bytes_prompt / runner.spec.kv_bytes(1, 4) == pytest.approx(of_prompt, abs=2)
    assert prefilled.kept_tokens() == pytest.approx(48, abs=2 if name == "pyramidkv" else 0)
    if per_layer and name != "pyramidkv":
        extra = 6 + (7 if compress == "context" else 0)
        assert per_layer == [(48 + extra) * 2] * 2


def test_a_prompt_of_nothing_is_one_line():
    with pytest.raises(
        ConfigError, match=r"^prompt: a token at least to read, got none; give a context or a question$"
    ):
        make_prompt(prefix=0, context=0, query=0)
