"""Layer stages and hidden-state pruning: published cuts, targets, and a plain computation layer by layer."""

import pytest
import torch

from pcbench.config import validate
from pcbench.errors import ConfigError
from pcbench.methods.full import Full
from pcbench.methods.uncomp.stages import stage_numbers, stage_shares, stage_sizes, stage_tokens
from pcbench.methods.uncomp.table import default_path
from pcbench.methods.uncomp_stage import UNCompStage
from pcbench.models.interface import attention
from pcbench.types import no_stages
from tests.methods.eviction.test_methods import answered
from tests.methods.uncomp.test_method import make_table
from tests.tiny import make_prompt, make_runner

# effective ranks of the queries of Llama-2-7B and 13B by layer, from the released code of UNComp
CURVES = {
    32: """71.09 70.85 67.41 69.05 69.22 69.52 71.96 73.15 72.40 73.33 73.35 73.32 73.69 73.94 74.62 73.31 73.60 73.91
    73.91 74.63 74.46 74.77 74.94 75.72 74.84 77.00 75.60 76.24 76.62 75.76 75.28 73.45""",
    40: """88.56 83.19 84.38 83.22 86.92 87.54 89.18 89.19 89.95 90.97 91.86 92.52 92.04 92.47 93.21 91.42 92.64 93.01
    92.98 93.16 93.38 93.12 94.17 93.09 92.58 92.88 93.11 94.19 94.16 94.64 96.27 94.77 95.59 95.22 95.32 94.19 95.29
    92.51 92.20 92.14""",
}
LLAMA_2_7B = [2, 13, 11, 5, 1]


@pytest.mark.parametrize(("layers", "expected"), [(32, LLAMA_2_7B), (40, [1, 2, 12, 8, 8, 4, 2, 3])])
def test_stages_of_the_published_curves(layers, expected):
    assert stage_sizes([float(x) for x in CURVES[layers].split()], 1.0) == expected
    assert sum(expected) == layers


def of_stages(tokens, sizes):
    """One number a stage."""
    by_stage = dict(zip(stage_numbers(sizes), tokens, strict=True))
    return list(by_stage.values())


def test_targets_of_stages():
    assert of_stages(stage_tokens(LLAMA_2_7B, 4096, 1536), LLAMA_2_7B) == [4096, 3456, 2816, 2176, 1536]
    assert of_stages(stage_tokens(LLAMA_2_7B, 8192, 1536), LLAMA_2_7B) == [8192, 6528, 4864, 3200, 1536]
    assert of_stages(stage_shares(LLAMA_2_7B, 0.375, 4096), LLAMA_2_7B) == [4096, 3456, 2816, 2176, 1536]
    assert of_stages(stage_shares(LLAMA_2_7B, 0.375, 1000), LLAMA_2_7B) == [1000, 844, 688, 531, 375]
    eight = stage_tokens([1, 2, 12, 8, 8, 4, 2, 3], 4096, 1536)
    assert eight[0] - eight[1] == 365
    assert stage_shares([4], 0.375, 100) == [100] * 4
    assert stage_tokens([4], 4096, 1536) == [4096] * 4


def make(runner, **values):
    values = {"head_groups": ["01"] * runner.spec.layers, "stages": [2, 1, 1]} | values
    return UNCompStage(validate(UNCompStage.Config, values, "test").resolve(runner.spec, "cpu"), runner)


def four_layers(**changes):
    return make_runner(num_hidden_layers=4, **changes)


@torch.inference_mode()
def plainly(runner, ids, lengths, window=8, sink=4, forced=None):
    """Logits of the last token and each layer's positions, layer by layer in eager attention.

    `forced` positions take the place of what the last 8 queries of the layer before attend to most.
    """
    base, received, positions = runner.model.base_model, [], []
    hidden, here = base.embed_tokens(ids)[None], torch.arange(ids.numel())
    hooks = [x.self_attn.register_forward_hook(lambda m, a, out: received.append(out[1])) for x in base.layers]
    with attention(runner.model, "eager"):
        for i, layer in enumerate(base.layers):
            rows = torch.arange(len(here))
            if forced is not None:
                rows = (here[:, None] == forced[i]).any(1).nonzero()[:, 0]
            elif i and lengths[i] < len(here):
                score = received[-1][0, :, -8:].sum((0, 1))
                score[:sink] = score[len(here) - window :] = torch.inf
                rows = score.sort(descending=True, stable=True).indices[: lengths[i]].sort().values
            hidden, here = hidden[:, rows], here[rows]
            mask = torch.full((1, 1, len(here), len(here)), torch.finfo(torch.float32).min).triu(1)
            rope = base.rotary_emb(hidden, here[None])
            out = layer(hidden, attention_mask=mask, position_embeddings=rope, position_ids=here[None])
            hidden = out[0] if isinstance(out, tuple) else out
            positions.append(here)
    for hook in hooks:
        hook.remove()
    return runner.logits(base.norm(hidden[:, -1])), positions


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_pruned_prefill_and_decoding_are_those_of_a_plain_computation(family, backend):
    runner = four_layers(family=family, backend=backend)
    prompt = make_prompt(context=150, new_tokens=8)
    ids = torch.cat([prompt.prefix, prompt.context, prompt.query])
    method = make(runner, tokens=400, least=0.4)
    prefilled = method.prefill(prompt, no_stages)
    lengths = [160, 160, 112, 64]
    assert method.config.layer_tokens(runner.spec, 160) == lengths
    truth, positions = plainly(runner, ids, lengths)
    torch.testing.assert_close(prefilled.logits, truth, rtol=1e-4, atol=1e-4)
    store = prefilled.state.store
    for layer, expected in enumerate(positions):
        assert store.lengths[layer].tolist() == [[lengths[layer]] * 2]
        for start in store.starts[layer][0].tolist():
            assert store.positions[layer][start : start + len(expected)].tolist() == expected.tolist()
    assert {0, 1, 2, 3, *range(152, 160)} <= set(positions[-1].tolist())
    assert prefilled.kv_bytes == prefilled.kv_bytes_predicted == store.nbytes()
    for step in range(3):
        ids = torch.cat([ids, torch.tensor([7 * step])])
        logits = method.step(prefilled, ids[-1:])
        positions = [torch.cat([x, torch.tensor([160 + step])]) for x in positions]
        truth, _ = plainly(runner, ids, lengths, forced=positions)
        torch.testing.assert_close(logits, truth, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("compress", ["prompt", "context"])
def test_stages_that_keep_all_are_full_attention(compress):
    runner = four_layers()
    prompt = make_prompt(context=60, new_tokens=8)
    for values in ({"least": 1.0}, {"whole_tokens": 500, "least_tokens": 200}, {"stages": [4]}):
        ours, _ = answered(make(runner, tokens=200, compress=compress, **values), prompt)
        truth, _ = answered(Full(Full.Config(), runner), prompt)
        torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-4)


def test_budgets_are_cut_to_the_tokens_that_a_layer_has():
    runner = four_layers(backend="cpu")
    prompt = make_prompt(context=150, new_tokens=4)
    method = make(runner, group_tokens=[50, 100], least=0.4)
    prefilled = method.prefill(prompt, no_stages)
    stored = [x.tolist()[0] for x in prefilled.state.store.lengths]
    assert stored == [[50, 100], [50, 100], [50, 100], [50, 64]]
    assert prefilled.kv_bytes == prefilled.kv_bytes_predicted == prefilled.state.store.nbytes()
    assert prefilled.kept_tokens() == pytest.approx(method.config.cost(runner.spec, 160).kv_tokens, abs=0.5)


def test_nothing_of_a_prompt_survives_into_the_next_and_no_hook_stays():
    runner = four_layers(backend="cpu")
    a, b = make_prompt(context=150, seed=1), make_prompt(context=90, seed=2)
    alone, _ = answered(make(runner, tokens=40), b)
    method = make(runner, tokens=40)
    answered(method, a)
    again, _ = answered(method, b)
    assert torch.equal(alone, again)
    assert not any(layer._forward_pre_hooks for layer in runner.model.base_model.layers)


def test_prompts_shorter_than_what_stays():
    runner = four_layers(backend="cpu")
    for context in (0, 3, 9):
        prompt = make_prompt(prefix=0, context=context, query=1, new_tokens=4)
        ours, _ = answered(make(runner, tokens=200), prompt, steps=3)
        truth, _ = answered(Full(Full.Config(), runner), prompt, steps=3)
        torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-4)


def test_a_forward_that_asks_nobody_between_layers_is_refused():
    runner = four_layers(backend="cpu")
    forward = type(runner).forward
    deaf = type("Deaf", (type(runner),), {"forward": lambda self, *given: forward(self, *given[:6])})
    runner = deaf(runner.model, runner.spec, runner.tokenizer, runner.ops)
    with pytest.raises(ConfigError, match=r"^layer stages: a forward that asks which tokens go on, got 100 tokens in"):
        make(runner, tokens=40).prefill(make_prompt(context=90), no_stages)


def test_stages_come_from_the_models_table(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    spec = four_layers().spec
    table = make_table(spec)
    table.curve[:] = torch.tensor([30.0, 31.0, 29.5, 29.0])
    table.write(default_path(spec, "queries"))
    config = UNCompStage.Config(order="random").resolve(spec, "cpu")
    assert config.stages == [2, 2]
    assert len(config.table_sha256) == 64
    assert UNCompStage.Config(theta=0.4).resolve(spec, "cpu").stages == [2, 1, 1]
    assert UNCompStage.Config(theta=0.4, swap_stages=True).resolve(spec, "cpu").stages == [1, 1, 2]
    released = UNCompStage.Config(preset="released").resolve(spec, "cpu")
    assert (released.whole_tokens, released.least_tokens, released.sink) == (4096, 1536, 0)
    assert UNCompStage.Config(**released.model_dump()).resolve(spec, "cpu") == released


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stages": [1, 2]}, r"stages: sizes with a sum of 4, the layers of llama, got \[1, 2\]"),
        ({"whole_tokens": 100}, "whole_tokens and least_tokens should stand together"),
        ({"whole_tokens": 100, "least_tokens": 200}, "least_tokens should be whole_tokens at most"),
    ],
)
def test_values_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        make(four_layers(), **values)


def test_layers_without_their_tokens_rotary_embedding_are_refused():
    runner = four_layers()
    layer = runner.model.base_model.layers[1]
    own = layer.forward
    layer.forward = lambda hidden_states, **named: own(hidden_states, **named)
    with pytest.raises(ConfigError, match=r"got llama \(llama\) with layers that are not handed position_embeddings"):
        make(runner, tokens=40).prefill(make_prompt(context=90), no_stages)


def test_layers_that_are_handed_more_by_token_are_refused():
    runner = four_layers()
    layer = runner.model.base_model.layers[1]
    own = type(layer).__call__

    class Handed(type(layer)):
        def __call__(self, *args, **named):
            return own(self, *args, per_token=torch.zeros(3), **named)

    layer.__class__ = Handed
    with pytest.raises(ConfigError, match="with layers that are handed per_token beside their tokens"):
        make(runner, tokens=40, stages=[1, 1, 1, 1]).prefill(make_prompt(context=90), no_stages)
