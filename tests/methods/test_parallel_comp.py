from dataclasses import replace

import pytest
import torch
from tiny import FAMILIES, continued, make_prompt, make_runner, no_stages

from pcbench.errors import ConfigError
from pcbench.methods.full import Full
from pcbench.methods.parallel_comp import ParallelComp
from pcbench.models.interface import attention


def method(runner, **config):
    return ParallelComp(ParallelComp.Config(**config).resolve(runner.spec, "cpu"), runner)


def close(a, b, tolerance=1e-4):
    return (a - b).norm() <= tolerance * b.norm()


@pytest.mark.parametrize("family", FAMILIES)
def test_one_chunk_without_eviction_is_the_plain_forward(family, backend):
    runner, prompt = make_runner(family, backend), make_prompt()
    _, ours, tokens = continued(method(runner, chunk_tokens=40), prompt)
    _, plain, expected = continued(Full(Full.Config(), runner), prompt)
    assert tokens == expected
    assert close(ours, plain)


SCALED = dict(attention_multiplier=0.3, logits_scaling=3.0, embedding_multiplier=2.0, residual_multiplier=0.7)


@pytest.mark.parametrize(("family", "changes"), [("phi", {}), ("granite", SCALED), ("cohere", {"logit_scale": 0.06})])
def test_biases_and_scales_of_the_head_are_in_answers_and_chunk_scores(family, changes, backend):
    runner, prompt = make_runner(family, backend, **changes), make_prompt()
    head = runner.model.get_output_embeddings()
    if head.bias is not None:
        head.bias.uniform_(-2, 2)
    prefilled, ours, tokens = continued(method(runner, chunk_tokens=40), prompt)
    ids = torch.cat([prompt.prefix, prompt.context, prompt.query, torch.tensor(tokens)])
    with attention(runner.model, "eager"):
        truth = runner.model(input_ids=ids[None], use_cache=False).logits[0]
    assert close(ours, truth[-len(ours) :])
    start = len(prompt.prefix) + len(prompt.context)
    nll = torch.nn.functional.cross_entropy(truth[start - 1 : start + len(prompt.query) - 1], prompt.query)
    assert prefilled.chunk_scores.tolist() == pytest.approx([float(nll)], rel=1e-4)


def test_a_biased_head_of_16_bits_answers_after_its_model_was_verified(backend):
    runner, prompt = make_runner("phi", backend, dtype=torch.bfloat16), make_prompt()
    runner.model.lm_head.bias.uniform_(-2, 2)
    runner.verify()
    prefilled, logits, _ = continued(method(runner, chunk_tokens=8, keep=2), prompt)
    assert prefilled.chunk_scores.isfinite().all()
    assert logits.dtype == torch.bfloat16


@torch.inference_mode()
def dense(runner, prompt, spans, follow, hidden=()):
    """The same by one forward with a 4-d mask: blocks of chunks, a query that sees all but the hidden of their keys."""
    rows = [torch.cat([prompt.prefix, prompt.context[a:b]]) for a, b in spans]
    tail = torch.cat([prompt.query, torch.tensor(follow, dtype=torch.int64)])
    ids = torch.cat([*rows, tail])
    owner = torch.cat([torch.full((len(r),), i) for i, r in enumerate(rows)] + [torch.full((len(tail),), -1)])
    start = max(len(r) for r in rows)
    positions = torch.cat([torch.arange(len(r)) for r in rows] + [start + torch.arange(len(tail))])
    index = torch.arange(len(ids))
    seen = (index <= index[:, None]) & ((owner == owner[:, None]) | (owner[:, None] == -1))
    seen &= ~((owner[:, None] == -1) & torch.isin(index, torch.tensor(hidden, dtype=torch.int64)))
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    with attention(runner.model, "sdpa"):
        logits = runner.model(ids[None], attention_mask=mask[None, None], position_ids=positions[None]).logits[0]
    return logits[len(ids) - len(follow) - 1 :]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("context", [40, 41])
def test_keeping_every_chunk_is_attention_with_a_block_mask(family, context, backend):
    runner, prompt = make_runner(family, backend), make_prompt(context=context)
    chunked = method(runner, chunk_tokens=11, keep=9)
    prefilled, ours, tokens = continued(chunked, prompt)
    assert len(prefilled.spans) == 4
    assert prefilled.kept_chunks.tolist() == [0, 1, 2, 3]
    assert close(ours, dense(runner, prompt, prefilled.spans, tokens))


def test_chunk_scores_are_the_mean_loss_of_the_query(backend):
    runner, prompt = make_runner(backend=backend), make_prompt()
    prefilled = method(runner, chunk_tokens=10, keep=2).prefill(prompt, no_stages)
    expected = []
    for a, b in prefilled.spans:
        ids = torch.cat([prompt.prefix, prompt.context[a:b], prompt.query])
        logits = runner.model(ids[None]).logits[0, -len(prompt.query) - 1 : -1]
        expected.append(torch.nn.functional.cross_entropy(logits, prompt.query).item())
    assert prefilled.chunk_scores.tolist() == pytest.approx(expected, rel=1e-5)
    best = sorted(sorted(range(4), key=expected.__getitem__)[:2])
    assert prefilled.kept_chunks.tolist() == best


@pytest.mark.parametrize("batch", [2, 3, 4])
def test_micro_batches_change_nothing(batch, backend):
    runner, prompt = make_runner(backend=backend), make_prompt(context=43)
    config = dict(chunk_tokens=11, keep=2, evict=dict(capacity=6), calibration=[dict(zone="all", layers=[0, 1])])
    one, ones, _ = continued(method(runner, **config), prompt)
    many, others, _ = continued(method(runner, micro_batch=batch, **config), prompt)
    assert torch.allclose(one.chunk_scores, many.chunk_scores, atol=1e-4)
    assert one.kept_chunks.tolist() == many.kept_chunks.tolist()
    assert one.kept_tokens() == many.kept_tokens() == 12
    assert close(others, ones)


def test_the_order_of_chunks_in_the_document_does_not_matter(backend):
    runner, prompt = make_runner(backend=backend), make_prompt(context=40)
    turned = replace(prompt, context=torch.cat([prompt.context[20:], prompt.context[:20]]))
    one = method(runner, chunk_tokens=10, keep=9).prefill(prompt, no_stages)
    other = method(runner, chunk_tokens=10, keep=9).prefill(turned, no_stages)
    assert one.chunk_scores.sort().values.tolist() == pytest.approx(other.chunk_scores.sort().values.tolist())
    assert close(one.logits, other.logits)


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


def test_the_store_holds_keep_plus_batch_slots_for_any_length():
    runner = make_runner()
    sizes = set()
    for context in (100, 400, 900):
        prefilled = method(runner, chunk_tokens=50, keep=2, micro_batch=2).prefill(
            make_prompt(context=context), no_stages
        )
        assert prefilled.state.store.k.shape[1] == 4
        sizes.add(prefilled.kv_bytes)
        assert abs(prefilled.kv_bytes - prefilled.kv_bytes_predicted) < 0.01 * prefilled.kv_bytes
    assert len(sizes) == 1


@pytest.mark.parametrize("more", [{}, {"when": "query", "decode": True, "group": "query_head"}])
def test_nothing_of_a_sample_survives_into_the_next(more, backend):
    runner = make_runner(backend=backend)
    config = dict(chunk_tokens=16, keep=2, evict=dict(capacity=5) | more, calibration="paper")
    a, b = make_prompt(context=70, seed=1), make_prompt(context=33, seed=2)
    alone = continued(method(runner, **config), b)[1]
    both = method(runner, **config)
    continued(both, a)
    assert torch.equal(continued(both, b)[1], alone)


def test_positions_stay_below_the_trained_length():
    runner, highest = make_runner(trained_tokens=64), []
    original = type(runner).forward

    class Watched(type(runner)):
        def forward(self, ids, positions, *rest):
            highest.append(int(positions.max()))
            return original(self, ids, positions, *rest)

    watched = Watched(runner.model, runner.spec, runner.tokenizer, runner.ops)
    prompt = make_prompt(context=500, new_tokens=6)
    prefilled, _, _ = continued(method(watched, keep=3), prompt, steps=5)
    assert max(highest) <= 63
    assert max(b - a for a, b in prefilled.spans) <= 64 - 3 - 7 - 6
    assert prefilled.warnings == []


def test_a_chunk_beyond_the_trained_length_is_cut_with_a_warning():
    runner = make_runner(trained_tokens=64)
    prefilled = method(runner, chunk_tokens=100, keep=1).prefill(make_prompt(context=200), no_stages)
    assert prefilled.warnings == ["chunk_tokens 100 cut to 50: 64 trained positions"]
    assert len(prefilled.spans) == 4


def test_short_prompts_have_defined_results(backend):
    runner = make_runner(backend=backend)
    for prompt in (make_prompt(context=3), make_prompt(context=0), make_prompt(prefix=0, context=1)):
        _, ours, _ = continued(method(runner, chunk_tokens=40, keep=5), prompt)
        _, plain, _ = continued(Full(Full.Config(), runner), prompt)
        assert close(ours, plain)


def test_neither_template_nor_context_leaves_the_query_alone(backend):
    runner, prompt = make_runner(backend=backend), make_prompt(prefix=0, context=0)
    prefilled, ours, _ = continued(method(runner), prompt)
    _, plain, _ = continued(Full(Full.Config(), runner), prompt)
    assert close(ours, plain)
    assert prefilled.kept_tokens() == 0


def test_a_query_of_one_token_is_scored_by_the_row_before_it(backend):
    runner, prompt = make_runner(backend=backend), make_prompt(query=1)
    calibrated = method(runner, chunk_tokens=10, keep=4, calibration=[dict(zone="all", layers=[0, 1], threshold=0.2)])
    prefilled, _, _ = continued(calibrated, prompt)
    assert torch.isfinite(prefilled.chunk_scores).all()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (make_prompt(query=0), "a query of at least one token, got none"),
        (make_prompt(query=600), "below the 512 trained positions of llama, got 607; shorten the query"),
    ],
)
def test_impossible_queries_are_clear_errors(prompt, message):
    with pytest.raises(ConfigError, match=message):
        method(make_runner()).prefill(prompt, no_stages)


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


def test_micro_batch_is_one_on_a_cpu_and_more_on_a_gpu():
    spec = make_runner(trained_tokens=4096).spec
    assert ParallelComp.Config().resolve(spec, "cpu").micro_batch == 1
    assert ParallelComp.Config().resolve(spec, "rocm").micro_batch == 8


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


def test_no_key_of_the_query_copies_is_stored():
    runner, prompt = make_runner(), make_prompt(context=40, query=7)
    prefilled = method(runner, chunk_tokens=10, keep=4).prefill(prompt, no_stages)
    assert prefilled.kept_tokens() == 40 + 4 * 3
