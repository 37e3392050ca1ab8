"""What decoding holds, questions behind a compressed context, edges of budgets."""

from dataclasses import replace

import pytest
import torch

from pcbench.errors import PcbenchError
from pcbench.methods.full import Full
from pcbench.registry import METHODS, load
from pcbench.types import no_stages
from tests.tiny import make_prompt, make_runner


def make(name, runner, **values):
    method = load(METHODS, "method", name, "")
    return method(method.Config(**values).resolve(runner.spec, "cpu"), runner)


def positions(prefilled, layer=0):
    """Positions of the stored tokens of each kv-head, sorted."""
    store = prefilled.state.store
    ends = [(int(s), int(n)) for s, n in zip(store.starts[layer][0], store.lengths[layer][0], strict=True)]
    return [sorted(store.positions[layer][start : start + length].tolist()) for start, length in ends]


def decoded(method, prompt, steps):
    prefilled = method.prefill(prompt, no_stages)
    for token in range(steps):
        method.step(prefilled, torch.tensor([token % 300]))
    return prefilled


def test_a_rolling_window_holds_sinks_and_the_newest():
    runner = make_runner()
    prefilled = decoded(make("streaming_llm", runner, tokens=20), make_prompt(new_tokens=40), 30)
    # the token just read is beside the 20
    assert positions(prefilled) == [[0, 1, 2, 3, *range(63, 80)]] * 2
    prefilled = decoded(make("recent_only", runner, tokens=20), make_prompt(new_tokens=40), 30)
    assert positions(prefilled) == [list(range(59, 80))] * 2


@pytest.mark.parametrize("name", ["h2o", "tova", "streaming_llm", "recent_only"])
def test_200_steps_take_no_more_memory(name):
    runner = make_runner(trained_tokens=512)
    method = make(name, runner, tokens=24)
    prefilled = method.prefill(make_prompt(new_tokens=210), no_stages)
    store = prefilled.state.store
    method.step(prefilled, torch.tensor([1]))
    arenas = [x.data_ptr() for x in (*store.k, *store.v, *store.positions)]
    for token in range(200):
        method.step(prefilled, torch.tensor([token]))
    assert [x.data_ptr() for x in (*store.k, *store.v, *store.positions)] == arenas
    assert store.nbytes() == prefilled.kv_bytes == prefilled.kv_bytes_predicted
    assert torch.stack(store.lengths).unique().tolist() == [25]
    assert all(len(set(kept)) == 25 and 250 in kept for kept in positions(prefilled))


@pytest.mark.parametrize("name", ["snapkv", "pyramidkv", "adakv", "h2o", "knorm", "keydiff", "streaming_llm", "tova"])
@pytest.mark.parametrize("tokens", [1, 5, 33])
def test_budgets_below_the_window_and_prompts_below_it(name, tokens):
    runner = make_runner()
    for prompt in (make_prompt(prefix=0, context=0, query=1), make_prompt(prefix=1, context=10, query=3)):
        length = prompt.context_tokens - prompt.new_tokens
        prefilled = make(name, runner, tokens=tokens).prefill(prompt, no_stages)
        assert prefilled.logits.isfinite().all()
        wanted = min(tokens, length) if name != "pyramidkv" or tokens >= length else None
        if wanted is not None:
            assert prefilled.kept_tokens() == wanted
        # what is newest stays
        assert all(kept[-1] == length - 1 for kept in positions(prefilled) if kept)


def test_a_question_over_what_stayed_of_the_context():
    runner = make_runner()
    prompt = make_prompt(prefix=0, context=90, query=9)
    method = make("snapkv", runner, tokens=40, compress="context")
    prefilled = method.prefill(prompt, no_stages)
    assert [kept[-9:] for kept in positions(prefilled)] == [list(range(90, 99))] * 2
    assert all(len(kept) == 49 for kept in positions(prefilled))
    # the same in two parts: questions read one token at a time
    again = make("snapkv", runner, tokens=40, compress="context")
    first = again.prefill(type(prompt)(prompt.prefix, prompt.context, prompt.query[:1], new_tokens=20), no_stages)
    for token in prompt.query[1:]:
        logits = again.step(first, token[None])
    torch.testing.assert_close(logits, prefilled.logits, rtol=1e-4, atol=1e-4)


def test_full_and_a_share_of_one_agree():
    runner = make_runner()
    prompt = make_prompt(context=70)
    ours = make("snapkv", runner, share=1.0).prefill(prompt, no_stages).logits
    torch.testing.assert_close(
        ours, Full(Full.Config(), runner).prefill(prompt, no_stages).logits, rtol=1e-4, atol=1e-4
    )


def test_tokens_and_share_exclude_each_other():
    with pytest.raises((PcbenchError, ValueError), match="tokens and share cannot both be given"):
        load(METHODS, "method", "snapkv", "").Config(tokens=8, share=0.5)


def test_a_question_counts_as_many_queries_as_it_has_tokens():
    """TOVA asks the last query alone; read at once or token by token, a question leaves the same victims."""
    runner = make_runner()
    prompt = make_prompt(prefix=0, context=60, query=9, new_tokens=30)
    found = []
    for first in (9, 1):
        method = make("tova", runner, tokens=200, compress="context")
        prefilled = method.prefill(replace(prompt, query=prompt.query[:first]), no_stages)
        for token in prompt.query[first:]:
            method.step(prefilled, token[None])
        found.append([x.tolist() for x in prefilled.state.store.victims])
    assert found[0] == found[1]


def test_more_than_a_compiled_selection_ranks_at_once():
    runner = make_runner(trained_tokens=16384, backend="cpu", num_hidden_layers=1)
    prompt = make_prompt(context=8300, query=3)
    # adakv ranks all that a layer may keep, in both heads
    for name, tokens, ranked in (("snapkv", 8250, 8250), ("adakv", 5000, 8306), ("adakv", 4096, 0)):
        prefilled = make(name, runner, tokens=tokens).prefill(prompt, no_stages)
        assert prefilled.kept_tokens() == tokens
        said = f"a selection of {ranked} tokens by the reference's code, compiled code ranks 8192"
        assert prefilled.warnings == ([said] if ranked else [])


def test_a_head_of_a_small_budget_costs_the_others_no_sinks():
    runner = make_runner()
    prompt = make_prompt(context=100)
    method = make("uncomp", runner, group_tokens=[3, 60], head_groups=["01", "10"], window=8, decode="grow")
    prefilled = method.prefill(prompt, no_stages)
    for layer, small in ((0, 0), (1, 1)):
        kept = positions(prefilled, layer)
        assert kept[small] == [107, 108, 109]
        assert kept[1 - small][:4] == [0, 1, 2, 3]
        assert kept[1 - small][-8:] == list(range(102, 110))
