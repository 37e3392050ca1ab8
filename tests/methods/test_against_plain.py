"""Every switch against the plain computation, on both backends; each must matter."""

import pytest
from plain_parallel_comp import Plain
from tiny import continued, make_prompt, make_runner, putting

from pcbench.methods.parallel_comp import ParallelComp

CHUNKS = dict(chunk_tokens=12, keep=3)


def rule(**keys):
    return dict(zone="all", layers=[0, 1], threshold=0.12, rows=2) | keys


# name → a config, and the same without the switch that the name is about
SWITCHES = {
    "tokens per chunk": (dict(evict=dict(capacity=5, rows=3)), {}),
    "a share of each chunk": (dict(evict=dict(share=0.5, rows=3)), dict(evict=dict(capacity=5, rows=3))),
    "pool": (dict(evict=dict(capacity=5, pool=3)), dict(evict=dict(capacity=5))),
    "rows": (dict(evict=dict(capacity=5, rows=2)), dict(evict=dict(capacity=5, rows=6))),
    "per query head": (dict(evict=dict(capacity=5, group="query_head")), dict(evict=dict(capacity=5))),
    "after the query": (dict(evict=dict(capacity=5, when="query")), dict(evict=dict(capacity=5))),
    "after the query, per query head": (
        dict(evict=dict(capacity=4, when="query", group="query_head")),
        dict(evict=dict(capacity=4, when="query")),
    ),
    "a share after the query": (
        dict(evict=dict(share=0.4, when="query")),
        dict(evict=dict(share=0.6, when="query")),
    ),
    "while decoding": (dict(evict=dict(capacity=5, decode=True)), dict(evict=dict(capacity=5))),
    "while decoding, per query head": (
        dict(evict=dict(capacity=5, decode=True, group="query_head")),
        dict(evict=dict(capacity=5, group="query_head")),
    ),
    "after the query and while decoding": (
        dict(evict=dict(capacity=4, when="query", decode=True)),
        dict(evict=dict(capacity=4, when="query")),
    ),
    "global rule": (dict(calibration=[rule()]), {}),
    "global rule for later": (dict(calibration=[rule(starts="next")]), dict(calibration=[rule()])),
    "chunk rule": (dict(calibration=[rule(scope="chunk")]), dict(calibration=[rule()])),
    "chunk rule at once": (
        dict(calibration=[rule(scope="chunk", starts="now")]),
        dict(calibration=[rule(scope="chunk")]),
    ),
    "zones": (
        dict(calibration=[rule(zone=z, width=4) for z in ("sink", "recent")]),
        dict(calibration=[rule(zone="middle", width=4)]),
    ),
    "chunk zones": (
        dict(calibration=[rule(zone=z, width=4, scope="chunk") for z in ("sink", "recent")]),
        dict(calibration=[rule(zone="middle", width=4, scope="chunk")]),
    ),
    "shared by heads": (
        dict(calibration=[rule(shared=True, threshold=0.05)]),
        dict(calibration=[rule(threshold=0.05)]),
    ),
    "fill": (dict(calibration=[rule(fill=True)]), dict(calibration=[rule()])),
    "fill in chunks": (dict(calibration=[rule(fill=True, scope="chunk")]), dict(calibration=[rule(scope="chunk")])),
    "query keys": (dict(calibration=[rule(query_keys=True)]), dict(calibration=[rule()])),
    "query keys and fill": (dict(calibration=[rule(query_keys=True, fill=True)]), dict(calibration=[rule(fill=True)])),
    "rules before tokens per chunk": (
        dict(calibration=[rule(scope="chunk"), rule()], evict=dict(capacity=6)),
        dict(evict=dict(capacity=6)),
    ),
    "rules and decoding": (
        dict(calibration=[rule(scope="chunk"), rule(starts="next")], evict=dict(capacity=6, when="query", decode=True)),
        dict(evict=dict(capacity=6, when="query", decode=True)),
    ),
}


def found(runner, prompt, config):
    method = ParallelComp(ParallelComp.Config(**CHUNKS | config).resolve(runner.spec, "cpu"), runner)
    return method, *continued(method, prompt, steps=6)


def close(a, b, tolerance=2e-5):
    return (a - b).norm() <= tolerance * b.norm()


# what a tokenizer may put in front of a text: a BOS, or two ids
STARTS = [(), (299,), (298, 299)]


def bos_runner(backend, starts=(299,)):
    return putting(make_runner(backend=backend), *starts)


def bos_prompt(seed=0, starts=(299,)):
    return make_prompt(prefix=1 + len(starts), context=48, query=9, new_tokens=8, seed=seed, start_ids=starts)


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize(("backend", "starts"), [("reference", ()), *(("cpu", starts) for starts in STARTS)])
def test_a_switch_is_the_plain_computation_and_changes_the_answer(name, backend, starts):
    config, without = SWITCHES[name]
    runner, prompt = (
        (bos_runner(backend, starts), bos_prompt(starts=starts))
        if starts
        else (make_runner(backend=backend), make_prompt(new_tokens=8))
    )
    method, prefilled, logits, tokens = found(runner, prompt, config)
    spans = [prefilled.spans[i] for i in prefilled.kept_chunks.tolist()]
    plain = Plain(runner, prompt, spans, tokens, method.config)
    assert close(logits, plain.logits())
    assert not close(logits, found(runner, prompt, without)[2], 1e-4)


@pytest.mark.parametrize("group", ["kv_head", "query_head"])
def test_a_bos_that_is_not_pooled_is_the_plain_computation(group, backend):
    runner, prompt = bos_runner(backend), bos_prompt(seed=4)
    config, results = dict(evict=dict(capacity=4, rows=2, group=group)), []
    for pool_first in (True, False):
        config["evict"]["pool_first"] = pool_first
        method, prefilled, logits, tokens = found(runner, prompt, config)
        spans = [prefilled.spans[i] for i in prefilled.kept_chunks.tolist()]
        assert close(logits, Plain(runner, prompt, spans, tokens, method.config).logits())
        results.append(logits)
    assert not close(*results, 1e-4)


@pytest.mark.parametrize("group", ["kv_head", "query_head"])
def test_eviction_after_the_query_leaves_the_keys_of_the_plain_computation(group, backend):
    runner, prompt = bos_runner(backend), bos_prompt()
    config = dict(evict=dict(capacity=4, when="query", group=group))
    method, prefilled, _, tokens = found(runner, prompt, config)
    spans = [prefilled.spans[i] for i in prefilled.kept_chunks.tolist()]
    plain = Plain(runner, prompt, spans, tokens, method.config)
    plain.logits()
    kept = [line for lines in plain.kept.values() for line in lines]
    assert {len(line) for line in kept} == {12}
    chunk_keys = [sum(j < plain.query_rows[0] for j in line) for line in kept]
    assert prefilled.kept_tokens() == pytest.approx(sum(chunk_keys) / len(kept))


def test_decoding_with_eviction_never_holds_more_keys(backend):
    runner, prompt = make_runner(backend=backend), make_prompt(new_tokens=8)
    config = dict(evict=dict(capacity=5, decode=True))
    method = ParallelComp(ParallelComp.Config(**CHUNKS | config).resolve(runner.spec, "cpu"), runner)
    held = []
    for steps in (0, 3, 6):
        prefilled, _, _ = continued(method, prompt, steps=steps)
        held.append(prefilled.state.store.held(prefilled.state.plan.slots[0]))
    assert held == [3 * 5 + 7] * 3
