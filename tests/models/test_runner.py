from dataclasses import replace

import pytest
import torch
from tiny import FAMILIES, make_runner
from torch.nn.attention import SDPBackend

from pcbench.errors import ConfigError


@pytest.mark.parametrize("family", FAMILIES)
def test_verify_passes_and_leaves_the_model_as_it_was(family):
    runner = make_runner(family)
    before = runner.model.config._attn_implementation
    runner.verify()
    assert runner.model.config._attn_implementation == before


def test_verify_catches_attention_that_the_plan_does_not_know_of():
    runner = make_runner()
    # a model that scales its scores by something else than 1/√D
    for layer in runner.model.model.layers:
        layer.self_attn.scaling *= 1.5
    with pytest.raises(ConfigError, match=r"scores scaled by 0\.1875 where a plan scales by 0\.125"):
        runner.verify()


def test_forward_hands_post_rope_tensors_to_the_plan_layer_by_layer():
    runner, seen = make_runner(), []

    def plan(layer, q, k, v, store, ops):
        seen.append((layer, tuple(q.shape), tuple(k.shape), tuple(v.shape), ops.backend))
        return torch.zeros_like(q)

    store = runner.new_store(2, 6)
    store.begin(torch.tensor([1, 0], dtype=torch.int32))
    ids, positions = torch.zeros(2, 6, dtype=torch.int64), torch.arange(6).expand(2, 6)
    hidden = runner.forward(ids, positions, torch.tensor([6, 4], dtype=torch.int32), store, plan)
    assert seen == [(layer, (2, 4, 6, 64), (2, 2, 6, 64), (2, 2, 6, 64), "reference") for layer in (0, 1)]
    assert hidden.shape == (2, 6, 96)
    assert store.rows(1).lengths.tolist() == [[4, 4], [6, 6]]


@pytest.mark.parametrize(("family", "changes"), [("llama", {}), ("phi", {}), ("granite", {"logits_scaling": 3.0})])
def test_logits_and_factors_are_those_of_the_models_own_head(family, changes):
    runner = make_runner(family, **changes)
    head = runner.model.get_output_embeddings()
    if head.bias is not None:
        head.bias.uniform_(-1, 1)
    ids = torch.arange(7)[None]
    truth = runner.model(input_ids=ids).logits[0]
    hidden = runner.model.base_model(input_ids=ids).last_hidden_state[0]
    rows, weights = runner.head_factors(hidden)
    assert torch.allclose(runner.logits(hidden), truth, atol=1e-5)
    assert torch.allclose(rows @ weights.T, truth, atol=1e-5)
    assert runner.head_factors(hidden, weights)[1] is weights
    # weights that change are seen
    if head.bias is not None:
        head.bias.add_(1)
        assert torch.equal(runner.head_factors(hidden)[1][:, -1], head.bias)


def test_stock_forward_returns_one_row_and_a_cache_that_goes_on():
    runner = make_runner()
    ids = torch.arange(9)[None]
    whole, _ = runner.stock_forward(ids, None)
    first, cache = runner.stock_forward(ids[:, :5], None)
    rest, _ = runner.stock_forward(ids[:, 5:], cache)
    assert first.shape == (1, 300)
    assert torch.allclose(rest, whole, atol=1e-4)


def test_an_error_inside_the_plan_restores_the_models_attention():
    runner = make_runner()
    before = runner.model.config._attn_implementation

    def plan(*_):
        raise RuntimeError("planned")

    store = runner.new_store(1, 4)
    store.begin(torch.zeros(1, dtype=torch.int32))
    with pytest.raises(RuntimeError, match="planned"):
        runner.forward(
            torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64), torch.ones(1).int(), store, plan
        )
    assert runner.model.config._attn_implementation == before


def test_a_stock_prompt_runs_by_the_kernel_it_is_told_and_a_step_by_torchs_choice(monkeypatch):
    runner = replace(make_runner(), sdpa=SDPBackend.MATH)
    seen, real = [], torch.nn.functional.scaled_dot_product_attention

    def attend(*args, **options):
        seen.append(torch.backends.cuda.flash_sdp_enabled())
        return real(*args, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)
    ids = torch.arange(9)[None]
    logits, cache = runner.stock_forward(ids[:, :8], None)
    layers = runner.spec.layers
    assert seen == [False] * layers
    runner.stock_forward(ids[:, 8:], cache)
    assert seen[layers:] == [True] * layers
    plain, _ = replace(runner, sdpa=None).stock_forward(ids[:, :8], None)
    assert torch.allclose(logits, plain, atol=1e-4)
