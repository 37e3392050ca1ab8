"""`kv_dtype`: methods whose caches are quantised, beside themselves with caches that are not."""

import pytest
import torch
from methods.chunked import method
from pydantic import ValidationError
from tiny import continued, make_prompt, make_runner, no_stages

from pcbench.errors import ConfigError
from pcbench.measure.watch import WatchedRunner
from tests.methods.eviction.test_methods import answered, make

# logits of a model of random weights and sharp attention, relative to those over the exact cache
OFF = {"int8": 0.05, "fp8": 0.25, "int4": 0.6}


@pytest.mark.parametrize("kv_dtype", OFF)
@pytest.mark.parametrize("name", ["snapkv", "adakv", "knorm"])
@pytest.mark.parametrize("compress", ["prompt", "context"])
def test_a_quantised_cache_of_an_eviction_method_answers_nearly_as_the_exact_one(name, compress, kv_dtype, backend):
    runner, prompt = make_runner(backend=backend), make_prompt(context=200, new_tokens=8)
    config = {"tokens": 150, "compress": compress}
    ours, prefilled = answered(make(name, runner, **config, kv_dtype=kv_dtype), prompt)
    exact, whole = answered(make(name, runner, **config), prompt)
    off = float((ours - exact).norm() / exact.norm())
    assert 0 < off <= OFF[kv_dtype]
    assert prefilled.kv_bytes == prefilled.kv_bytes_predicted < whole.kv_bytes
    assert prefilled.kv_bytes_prompt < whole.kv_bytes_prompt
    assert prefilled.kept_tokens() == whole.kept_tokens()


@pytest.mark.parametrize("kv_dtype", OFF)
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"evict": {"capacity": 70}},
        {"calibration": [{"zone": "sink", "layers": [0, 1], "threshold": 0.01, "width": 5, "scope": "chunk"}]},
    ],
    ids=["plain", "evict", "calibrate"],
)
def test_quantised_chunks_answer_nearly_as_exact_ones(config, kv_dtype, backend):
    runner, prompt = make_runner(backend=backend), make_prompt(context=300, start_ids=(299,), new_tokens=5)
    config = {"chunk_tokens": 100, "keep": 2} | config
    prefilled, ours, _ = continued(method(runner, **config, kv_dtype=kv_dtype), prompt, steps=0)
    whole, exact, _ = continued(method(runner, **config), prompt, steps=0)
    off = float((ours - exact).norm() / exact.norm())
    assert 0 < off <= OFF[kv_dtype]
    assert prefilled.kept_chunks.tolist() == whole.kept_chunks.tolist()
    assert prefilled.kv_bytes == prefilled.kv_bytes_predicted < whole.kv_bytes
    assert prefilled.kept_tokens() == whole.kept_tokens()


def test_int8_takes_no_more_than_0_53_of_the_bytes_of_bfloat16():
    runner, prompt = make_runner(backend="cpu", dtype=torch.bfloat16, trained_tokens=4096), make_prompt(context=2680)
    for made in (
        lambda **more: make("snapkv", runner, tokens=2048, **more),
        lambda **more: method(runner, chunk_tokens=1340, keep=2, **more),
    ):
        int8, exact = (made(**more).prefill(prompt, no_stages).kv_bytes for more in ({"kv_dtype": "int8"}, {}))
        assert int8 <= 0.53 * exact


def test_the_parity_of_a_run_watches_quantized_attention():
    runner, prompt = make_runner(backend="cpu", dtype=torch.bfloat16), make_prompt(context=200)
    for name, config in (("snapkv", {"tokens": 150}), ("parallel_comp", {"chunk_tokens": 100})):
        watched = WatchedRunner.of(runner, seed=1)
        answered(make(name, watched, kv_dtype="fp8", **config), prompt, steps=2)
        found = watched.watch.worst()
        assert {"cached_attention", "merge_states", "quantized_attention"} <= found.keys()
        assert all(x["err"] <= x["bound"] for x in found.values()), found


@pytest.mark.parametrize("name", ["h2o", "tova", "streaming_llm", "recent_only", "uncomp"])
def test_methods_that_displace_keys_while_they_decode_refuse_it(name):
    with pytest.raises((ConfigError, ValidationError), match="kv_dtype should stand with decode = grow"):
        make(name, make_runner(), kv_dtype="int8")


@pytest.mark.parametrize(
    ("name", "config"),
    [("chai", {"clusters": [2, 2]}), ("streaming_llm", {"decode": "grow"}), ("snapkv", {"preset": "uncomp-released"})],
)
def test_keys_that_move_or_are_shared_are_not_quantised(name, config):
    refused = make(name, make_runner(), kv_dtype="int8", **config)
    with pytest.raises(ConfigError, match=r"policy: kv_dtype where stored keys stay as they are .* leave kv_dtype out"):
        refused.prefill(make_prompt(context=100), no_stages)


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"evict": {"capacity": 8, "when": "query"}}, "evict from the whole cache"),
        ({"evict": {"capacity": 8, "decode": True}}, "evict from the whole cache"),
        ({"calibration": "paper"}, "calibration by global rules"),
    ],
)
def test_parallel_comp_refuses_what_reads_or_moves_single_keys_of_the_cache(config, found):
    with pytest.raises(ConfigError, match=f"parallel_comp: kv_dtype where chunks .* got {found}; leave one out"):
        method(make_runner(), kv_dtype="int8", **config)


def test_an_unknown_format_is_refused():
    with pytest.raises(ValidationError, match="'int8', 'int4' or 'fp8'"):
        make("snapkv", make_runner(), kv_dtype="int2")
