"""Presets: settings of other repositories, with the figures that their code gives."""

from dataclasses import replace

import pytest
import torch

from pcbench.errors import ConfigError
from pcbench.methods.eviction.budgets import BestWeighed, UNCompPyramid
from pcbench.methods.h2o import H2O
from pcbench.methods.streaming_llm import StreamingLLM
from pcbench.registry import METHODS, load
from tests.methods.eviction.test_methods import answered, make
from tests.tiny import make_prompt, make_runner

SPEC = make_runner(num_hidden_layers=2).spec


def policy_of(name, **values):
    config = load(METHODS, "method", name, "").Config(**values).resolve(SPEC, "cpu")
    return config.policy(SPEC, config.tokens_of(4000))


def layers(budgets, tokens, length, count=32):
    spec = replace(SPEC, layers=count)
    return [budgets(layer, spec, tokens, length)[0] for layer in range(count)]


@pytest.mark.parametrize(
    ("tokens", "length", "first", "last", "mean"),
    [
        (512, 4000, 729, 47, 388),
        (86, 4000, 100, 8, 53.53),
        # what the first layer cannot use goes to the others: 600 and 168 in steps of 13
        (512, 600, 584, 181, 382.5),
        # of less than three quarters the later layers keep the more
        (512, 150, 138, 150, 149.625),
    ],
)
def test_the_pyramid_is_that_of_uncomps_repository(tokens, length, first, last, mean):
    kept = layers(UNCompPyramid(), tokens, length)
    assert (kept[0], kept[-1], sum(kept) / 32) == (first, last, pytest.approx(mean, abs=0.01))
    assert layers(UNCompPyramid(reverse=True), tokens, length) == kept[::-1]


def test_baselines_of_uncomps_repository_at_512():
    snapkv = policy_of("snapkv", tokens=512, preset="uncomp-released")
    assert (snapkv.scores.window, snapkv.pool, snapkv.sink, snapkv.recent) == (50, 7, 0, 50)
    assert (snapkv.decoding.window, snapkv.decoding.recent) == (50, 50)
    pyramid = policy_of("pyramidkv", tokens=512, preset="uncomp-released")
    assert (pyramid.scores.window, pyramid.decoding.window, pyramid.sink) == (8, 8, 0)
    assert layers(pyramid.budgets, 512, 4000)[::31] == [729, 47]
    h2o = policy_of("h2o", tokens=512, preset="uncomp-released")
    assert (h2o.recent, h2o.sink, h2o.decoding.recent) == (508, 0, 508)
    streaming = policy_of("streaming_llm", tokens=512, preset="uncomp-released")
    assert (streaming.sink, streaming.recent, streaming.decoding, streaming.placing) == (365, 73, None, None)


def test_a_heavy_hitter_at_least():
    recent = {n: policy_of("h2o", tokens=n, preset="uncomp-released").recent for n in (1, 64, 86, 128, 1024)}
    assert recent == {1: 0, 64: 63, 86: 85, 128: 127, 1024: 1016}
    given = H2O.Config(tokens=512, preset="uncomp-released", recent=100).resolve(SPEC, "cpu")
    assert given.policy(SPEC, 512).recent == 100


def test_seven_parts_are_divided_once():
    config = StreamingLLM.Config(tokens=512, preset="uncomp-released").resolve(SPEC, "cpu")
    assert (config.tokens, config.sink) == (438, 365)
    assert StreamingLLM.Config(**config.model_dump()).resolve(SPEC, "cpu") == config
    given = StreamingLLM.Config(tokens=512, preset="uncomp-released", sink=4).resolve(SPEC, "cpu")
    assert (given.tokens, given.sink) == (512, 4)
    for values, got in (({"tokens": 6}, "tokens = 6"), ({"share": 0.5}, "share = 0.5")):
        with pytest.raises(ConfigError, match=f"^streaming_llm: 7 tokens at least .*, got {got}; give as many"):
            StreamingLLM.Config(preset="uncomp-released", **values).resolve(SPEC, "cpu")


def plain_counts(scores, budget, safeguard):
    """Of one row [Hkv, S]: exact parts of each head, as KVCache-Factory has them before it rounds."""
    tops = [sorted(head, reverse=True) for head in scores.tolist()]
    weight = [sum(top[:budget]) / sum(top) for top in tops]
    flat = sorted(((x * weight[h], -h) for h, top in enumerate(tops) for x in top), reverse=True)
    best = [-h for _, h in flat[: budget * len(tops)]]
    return [best.count(h) * (1 - safeguard) + safeguard * budget for h in range(len(tops))]


@pytest.mark.parametrize("safeguard", [0.0, 0.2, 1.0])
def test_weighed_budgets_are_those_of_kvcache_factory_within_a_token(safeguard):
    generator = torch.Generator().manual_seed(0)
    votes = torch.rand(3, 4, 100, generator=generator) ** torch.tensor([1.0, 2.0, 4.0, 8.0])[:, None]
    # protected: the last 8; none of the row's tokens: behind 90 in the last row
    scores = votes.clone()
    scores[..., 92:] = torch.inf
    scores[2, :, 82:90], scores[2, :, 90:] = torch.inf, -torch.inf
    found = BestWeighed(safeguard)(scores, torch.full((3, 4), 28))
    assert found.sum(1).tolist() == [4 * 28] * 3
    for row, end in enumerate((92, 92, 82)):
        exact = plain_counts(votes[row, :, :end], 20, safeguard)
        assert all(abs(n - 8 - x) < 1 for n, x in zip(found[row].tolist(), exact, strict=True))
        assert (max(exact) - min(exact) > 5) == (safeguard < 1)


RUNS = [
    ("snapkv", "uncomp-released", {}), ("pyramidkv", "uncomp-released", {}), ("h2o", "uncomp-released", {}),
    ("streaming_llm", "uncomp-released", {}),
    ("streaming_llm", "released", {}), ("adakv", "released", {}),
    ("uncomp", "released", {"layers": "pyramid", "head_groups": ["01", "10"]}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "preset", "more"), RUNS)
def test_a_preset_runs(name, preset, more):
    runner = make_runner(backend="cpu")
    prompt = make_prompt(context=150, new_tokens=8)
    method = make(name, runner, tokens=70, preset=preset, **more)
    logits, prefilled = answered(method, prompt)
    store, config = prefilled.state.store, method.config
    assert logits.isfinite().all()
    assert store.nbytes() == prefilled.kv_bytes == prefilled.kv_bytes_predicted
    budgets = [config.policy(runner.spec, config.tokens).budgets(i, runner.spec, config.tokens, 160) for i in range(2)]
    assert prefilled.kept_tokens() == pytest.approx(sum(map(sum, budgets)) / 4)
    # these displace a token for each new one
    more = 1 if getattr(config, "decode", "grow") == "evict" else 6
    assert sum(int(x.sum()) for x in store.lengths) == sum(map(sum, budgets)) + 4 * more
