"""Chunks, their scores and the kept ones: equal to plain forwards and masks."""

from dataclasses import replace

import pytest
import torch
from methods.chunked import close, dense, method
from tiny import FAMILIES, continued, make_prompt, make_runner, no_stages

from pcbench.errors import ConfigError
from pcbench.methods.full import Full
from pcbench.methods.parallel_comp import ParallelComp
from pcbench.models.interface import attention


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


def test_room_for_a_long_answer_is_not_of_the_prompt():
    runner = make_runner()
    short, long = (
        method(runner, chunk_tokens=20, keep=1).prefill(make_prompt(new_tokens=n), no_stages) for n in (4, 200)
    )
    assert long.kv_bytes > 3 * short.kv_bytes
    assert long.kv_bytes_prompt == short.kv_bytes_prompt == short.kv_bytes


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


def test_micro_batch_is_one_on_a_cpu_and_more_on_a_gpu():
    spec = make_runner(trained_tokens=4096).spec
    assert ParallelComp.Config().resolve(spec, "cpu").micro_batch == 1
    assert ParallelComp.Config().resolve(spec, "rocm").micro_batch == 8


def test_no_key_of_the_query_copies_is_stored():
    runner, prompt = make_runner(), make_prompt(context=40, query=7)
    prefilled = method(runner, chunk_tokens=10, keep=4).prefill(prompt, no_stages)
    assert prefilled.kept_tokens() == 40 + 4 * 3
