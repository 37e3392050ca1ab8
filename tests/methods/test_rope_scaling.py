"""Scaled frequencies are those of a transformers model that was loaded with them."""

from dataclasses import replace

import pytest
import torch
from tiny import continued, make_prompt, make_runner, with_rope

from pcbench.errors import ConfigError
from pcbench.methods.full import Full
from pcbench.methods.rope_scaling import RopeScaling
from pcbench.types import no_stages

BASE = 10000.0
# of a model of 64 trained tokens whose heads turn 64 channels, or half of them
CONFIGS = {
    "pi": {"rope_type": "linear", "factor": 2.5},
    "dynamic": {"rope_type": "dynamic", "factor": 2.5},
    "yarn": {"rope_type": "yarn", "factor": 2.5, "original_max_position_embeddings": 64},
    "ntk": {"rope_type": "default", "rope_theta": BASE * 2.5 ** (64 / 62)},
}


def make(family="llama", rope=None, trained_tokens=64):
    """A runner of a model that is scaled so, or of a plain one."""
    plain = {"rope_type": "default", "rope_theta": BASE}
    runner = make_runner(family, trained_tokens=trained_tokens, rope_parameters=dict(plain))
    return runner if rope is None else replace(runner, model=with_rope(runner.model, plain | rope))


def method(runner, **config):
    return RopeScaling(RopeScaling.Config(**config).resolve(runner.spec, "cpu"), runner)


@pytest.mark.parametrize("kind", CONFIGS)
def test_it_is_a_model_with_that_config_bit_for_bit(kind):
    runner = make()
    for context in (90, 30, 120):
        prompt = make_prompt(context=context, new_tokens=8)
        # as it was just loaded
        other = make(rope=CONFIGS[kind])
        _, truth, tokens = continued(Full(Full.Config(), other), prompt, 6)
        prefilled, ours, same = continued(method(runner, type=kind, factor=2.5), prompt, 6)
        assert torch.equal(ours, truth)
        assert same == tokens
        assert prefilled.kv_bytes == prefilled.kv_bytes_predicted
    _, plain, _ = continued(Full(Full.Config(), make()), prompt, 6)
    _, after, _ = continued(Full(Full.Config(), runner), prompt, 6)
    assert torch.equal(after, plain)
    assert not torch.allclose(after, ours, atol=1e-2)


def test_half_of_the_channels_turn():
    runner = make("glm", {"partial_rotary_factor": 0.5})
    other = make("glm", {"partial_rotary_factor": 0.5, "rope_theta": BASE * 4 ** (32 / 30)})
    prompt = make_prompt(context=80)
    _, truth, _ = continued(Full(Full.Config(), other), prompt)
    _, ours, _ = continued(method(runner, type="ntk"), prompt)
    assert torch.equal(ours, truth)


def test_another_trained_length():
    runner, prompt = make(), make_prompt(context=60)
    other = make(rope={"rope_type": "dynamic", "factor": 1.0}, trained_tokens=32)
    _, truth, _ = continued(Full(Full.Config(), other), prompt)
    _, ours, _ = continued(method(runner, type="dynamic", factor=1.0, trained_tokens=32), prompt)
    assert torch.equal(ours, truth)


def test_what_is_longer_than_it_was_scaled_for_is_said():
    runner = make()
    for kind, context, warned in (
        ("yarn", 100, []),
        ("yarn", 260, ["274 positions, trained on 256"]),
        ("dynamic", 260, []),
    ):
        assert method(runner, type=kind).prefill(make_prompt(context=context), no_stages).warnings == warned


def test_a_model_that_is_scaled_already_is_refused():
    runner = make(rope=CONFIGS["yarn"])
    with pytest.raises(ConfigError, match=r"llama: rotary frequencies that are not scaled .* got yarn; choose another"):
        method(runner).prefill(make_prompt(), no_stages)
