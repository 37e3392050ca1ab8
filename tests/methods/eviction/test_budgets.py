"""Budgets of layers and heads: figures of the released code, sums that hold."""

import pytest
import torch

from pcbench.errors import ConfigError
from pcbench.methods.eviction import Policy
from pcbench.methods.eviction.budgets import BestOfLayer, Pyramid, Uniform, WholeFirst
from pcbench.methods.eviction.decoding import Oldest
from pcbench.methods.eviction.scores import Nothing
from pcbench.methods.h2o import H2O
from pcbench.methods.streaming_llm import StreamingLLM
from tests.tiny import make_runner

SPEC = make_runner(num_hidden_layers=2).spec


def layers(budgets, tokens, length, count=32):
    spec = type(SPEC)(**{**vars(SPEC), "layers": count})
    return [budgets(layer, spec, tokens, length)[0] for layer in range(count)]


@pytest.mark.parametrize(
    ("tokens", "length", "first", "last", "mean"),
    [(128, 8000, 242, 25, 133.5), (512, 8000, 991, 61, 526), (2048, 8000, 3986, 111, 2048.5)],
)
def test_pyramid_is_that_of_kvcache_factory(tokens, length, first, last, mean):
    """Sizes that its formula gives at a window of 8, over 32 layers (commit c97f9d7)."""
    kept = layers(Pyramid(beta=20, window=8, whole_steps=True), tokens, length)
    assert (kept[0], kept[-1]) == (first, last)
    assert sum(kept) / 32 == pytest.approx(mean, abs=0.05)
    assert layers(Pyramid(beta=20, window=8, reverse=True, whole_steps=True), tokens, length) == kept[::-1]


def test_pyramid_of_short_prompts():
    # shorter than the budget: whole; below twice the budget: even
    assert layers(Pyramid(window=8), 128, 100) == [128] * 32
    assert layers(Pyramid(window=8), 128, 200) == [128] * 32
    # the first layer keeps the prompt whole, and what it cannot use goes to the others
    kept = layers(Pyramid(window=8), 128, 244)
    assert kept[0] == 242
    assert max(kept) <= 244


def test_uniform_and_whole_first():
    assert layers(Uniform(), 48, 1000, 3) == [48, 48, 48]
    assert layers(WholeFirst(2, Uniform()), 48, 1000, 4) == [1000, 1000, 48, 48]


def test_best_of_layer_keeps_the_sum_and_every_heads_part():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 4, 100, generator=generator)
    scores[:, 0] += 5
    budgets = torch.full((3, 4), 20)
    shared = BestOfLayer(safeguard=0.2)(scores, budgets)
    assert shared.sum(1).tolist() == [80] * 3
    assert int(shared.min()) >= 4
    assert shared[:, 0].tolist() == [68] * 3
    # with everything sure, nothing moves
    assert BestOfLayer(safeguard=1.0)(scores, budgets).tolist() == budgets.tolist()
    # without a safeguard the layer's best tokens stay, whichever heads they are of
    best = scores.flatten(1).topk(80).values.amin(1)
    assert BestOfLayer(0.0)(scores, budgets).tolist() == (scores >= best[:, None, None]).sum(-1).tolist()


def test_released_h2o_and_streaming_llm_at_512():
    """C.5: 504 heavy hitters and 8 recent tokens; 4 first and 508 last."""
    config = H2O.Config(tokens=512, preset="released").resolve(SPEC, "cpu")
    policy = config.policy(SPEC, 512)
    assert (policy.recent, policy.sink, policy.decoding) == (8, 0, None)
    policy = StreamingLLM.Config(tokens=512).resolve(SPEC, "cpu").policy(SPEC, 512)
    assert (policy.sink, policy.recent) == (4, 508)


def test_budgets_are_not_moved_where_tokens_displace_others():
    policy = Policy(Nothing(), Uniform(), sharing=BestOfLayer(), decoding=Oldest(0))
    said = r"^policy: budgets that are known before .* displace others, got sharing and decoding; leave one out$"
    with pytest.raises(ConfigError, match=said):
        policy.segments(0, torch.full((1, 2), 8), torch.tensor([30]), 0, 4)
