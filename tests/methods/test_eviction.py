"""Keys that are evicted, or hidden by calibration: which, and that nothing else changes."""

from dataclasses import replace

import pytest
import torch
from methods.chunked import close, dense, method
from tiny import continued, make_prompt, make_runner, no_stages

from pcbench.errors import ConfigError
from pcbench.methods.parallel_comp import ParallelComp


def test_evicting_nothing_is_no_eviction(backend):
    runner, prompt = make_runner(backend=backend), make_prompt()
    config = dict(chunk_tokens=10, keep=2)
    _, plain, _ = continued(method(runner, **config), prompt)
    _, all_kept, _ = continued(method(runner, evict=dict(capacity=13), **config), prompt)
    assert close(all_kept, plain, 1e-6)


@pytest.mark.parametrize("evict", [dict(capacity=999), dict(capacity=2**31 - 1), dict(capacity=31), dict(share=1.0)])
@pytest.mark.parametrize("group", ["kv_head", "query_head"])
def test_evicting_nothing_after_the_query_is_no_eviction(evict, group, backend):
    runner, prompt = make_runner(backend=backend), make_prompt(context=40, query=38)
    config = dict(chunk_tokens=10, keep=3)
    none, plain, _ = continued(method(runner, **config), prompt)
    all_kept, logits, _ = continued(method(runner, evict=dict(when="query", group=group) | evict, **config), prompt)
    assert all_kept.kept_tokens() == none.kept_tokens() == 3 * 13
    assert close(logits, plain, 1e-6)


def test_eviction_shrinks_the_store_and_keeps_the_capacity_per_head(backend):
    runner, prompt = make_runner(backend=backend), make_prompt(context=400, query=7, new_tokens=4)
    whole = method(runner, chunk_tokens=100, keep=2).prefill(prompt, no_stages)
    small = method(runner, chunk_tokens=100, keep=2, evict=dict(capacity=25)).prefill(prompt, no_stages)
    assert (whole.kept_tokens(), small.kept_tokens()) == (206, 50)
    assert small.kv_bytes < whole.kv_bytes / 3
    assert small.chunk_scores.tolist() == pytest.approx(whole.chunk_scores.tolist())


@pytest.mark.parametrize(
    "config", [{}, {"evict": {"capacity": 6}}, {"calibration": [{"zone": "all", "layers": [0, 1], "scope": "chunk"}]}]
)
@pytest.mark.parametrize("starts", [(299,), (298, 299)])
def test_only_the_first_kept_chunk_keeps_its_start_ids(starts, config, backend):
    # a config may call another token its BOS
    runner, prompt = make_runner(backend=backend, bos_token_id=7), make_prompt(prefix=2, context=33, start_ids=starts)
    config = dict(chunk_tokens=11, keep=3) | config
    plain, expected, _ = continued(method(runner, **config), replace(prompt, start_tokens=0))
    once, found, _ = continued(method(runner, **config), prompt)
    assert once.kept_tokens() == plain.kept_tokens() - 2 * len(starts)
    assert not close(found, expected)


def test_dropping_repeated_bos_keys_is_attention_without_them(backend):
    runner, prompt = make_runner(backend=backend), make_prompt(prefix=1, context=33, start_ids=(299,))
    prefilled, ours, tokens = continued(method(runner, chunk_tokens=11, keep=3), prompt)
    assert close(ours, dense(runner, prompt, prefilled.spans, tokens, hidden=(12, 24)))


def test_eviction_protects_the_bos(backend):
    runner = make_runner(backend=backend)
    prompt = make_prompt(prefix=1, context=60, start_ids=(299,))
    prefilled = method(runner, chunk_tokens=60, keep=1, evict=dict(capacity=3, pool=1)).prefill(prompt, no_stages)
    store, state = prefilled.state.store, prefilled.state
    kept = state.plan.slots[0, 0].long()
    with torch.inference_mode():
        seen = []
        runner.forward(
            torch.tensor([[299]]),
            torch.zeros(1, 1, dtype=torch.int64),
            torch.ones(1, dtype=torch.int32),
            _begun(runner),
            lambda layer, q, k, v, store, ops: seen.append(k) or v.repeat_interleave(2, 1),
        )
    assert torch.allclose(store.k[0, kept, :, 0], seen[0][0, :, 0], atol=1e-6)


def _begun(runner):
    store = runner.new_store(1, 4)
    store.begin(torch.zeros(1, dtype=torch.int32))
    return store


def test_the_papers_recipe_is_three_rules_at_fractions_of_the_depth():
    spec = replace(make_runner().spec, layers=32)
    rules = ParallelComp.Config(calibration="paper").resolve(spec, "cpu").calibration
    assert [(r.zone, r.layers, r.threshold) for r in rules] == [
        ("recent", [8, 15], 0.1),
        ("middle", [0, 7], 0.1),
        ("sink", [24, 31], 0.1),
    ]


@pytest.mark.parametrize("layers", [[0, 2], [1, 0]])
def test_layers_outside_the_model_are_an_error(layers):
    with pytest.raises(ConfigError, match=r"calibration\[0\].layers must be first ≤ last < 2 for llama"):
        method(make_runner(), calibration=[dict(zone="sink", layers=layers)])


@pytest.mark.parametrize("scope", ["global", "chunk"])
def test_calibration_hides_few_keys_and_never_the_querys(scope, backend):
    runner, prompt = make_runner(backend=backend), make_prompt(context=60)
    rule = dict(zone="all", layers=[1, 1], threshold=0.15, rows=2, scope=scope)
    calibrated = method(runner, chunk_tokens=20, keep=2, calibration=[rule])
    prefilled, changed, _ = continued(calibrated, prompt)
    _, plain, _ = continued(method(runner, chunk_tokens=20, keep=2), prompt)
    store, slots = prefilled.state.store, prefilled.state.plan.slots[0].long()
    bits = [[bin(int(w) & 0xFFFFFFFF).count("1") for w in head] for head in store.evicted[1, slots].flatten(0, 1)]
    hidden = torch.tensor(bits).sum(1).view(len(slots), -1)  # [K + 1, H]
    assert (store.evicted[0, slots] == 0).all()
    assert (hidden[-1] == 0).all()
    assert hidden.sum() > 0
    per_head = hidden.sum(0) if scope == "global" else hidden.amax(0)
    assert per_head.max() < 1 / 0.15
    assert not close(changed, plain, 1e-6)


def test_a_threshold_of_one_hides_nothing(backend):
    runner, prompt = make_runner(backend=backend), make_prompt()
    rules = [dict(zone="all", layers=[0, 1], threshold=1.0, scope=scope) for scope in ("global", "chunk")]
    _, calibrated, _ = continued(method(runner, chunk_tokens=10, keep=2, calibration=rules), prompt)
    _, plain, _ = continued(method(runner, chunk_tokens=10, keep=2), prompt)
    assert torch.equal(calibrated, plain)


def test_rules_of_empty_zones_hide_nothing(backend):
    runner, prompt = make_runner(backend=backend), make_prompt()
    # a width beyond the sequence makes every key a sink
    rules = [
        dict(zone=zone, layers=[0, 1], threshold=0.01, width=1000, scope=scope)
        for zone in ("middle", "recent")
        for scope in ("global", "chunk")
    ]
    _, calibrated, _ = continued(method(runner, chunk_tokens=10, keep=2, calibration=rules), prompt)
    _, plain, _ = continued(method(runner, chunk_tokens=10, keep=2), prompt)
    assert torch.equal(calibrated, plain)


@pytest.mark.parametrize("evict", [dict(capacity=6), dict(capacity=6, when="query", decode=True)])
def test_query_heads_that_share_no_keys_choose_as_kv_heads_do(evict, backend):
    runner, prompt = make_runner(backend=backend, num_key_value_heads=4), make_prompt(new_tokens=8)
    by_kv, by_query = (
        continued(method(runner, chunk_tokens=12, keep=2, evict=evict | dict(group=group)), prompt)
        for group in ("kv_head", "query_head")
    )
    assert torch.equal(by_kv[1], by_query[1])
    assert by_kv[0].kv_bytes == by_query[0].kv_bytes


def test_repeated_keys_are_in_the_predicted_bytes():
    runner, prompt = make_runner(), make_prompt()
    by_kv, by_query = (
        method(runner, chunk_tokens=12, evict=dict(capacity=6, group=group)).prefill(prompt, no_stages)
        for group in ("kv_head", "query_head")
    )
    assert by_query.kv_bytes_predicted == 2 * by_kv.kv_bytes_predicted
    assert abs(by_query.kv_bytes - by_query.kv_bytes_predicted) < 0.01 * by_query.kv_bytes


def test_hidden_keys_follow_the_selection_of_tokens():
    """With all tokens kept, chunk-scoped bits after selection equal those without it."""
    runner, prompt = make_runner(), make_prompt(context=60)
    rules = [dict(zone="all", layers=[0, 1], threshold=0.1, scope="chunk")]
    config = dict(chunk_tokens=20, keep=3, calibration=rules)
    _, bits_only, _ = continued(method(runner, **config), prompt)
    _, selected, _ = continued(method(runner, evict=dict(capacity=23), **config), prompt)
    assert close(selected, bits_only, 1e-5)
