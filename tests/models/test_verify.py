import pytest
import torch
from tiny import make_runner

from pcbench.errors import ConfigError, NotFinite
from pcbench.models import verify as checking
from pcbench.models.runner import HFRunner
from pcbench.models.stores.slots import SlotCache
from pcbench.types import KVRows

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def refused(runner, kind=ConfigError):
    with pytest.raises(kind) as caught:
        runner.verify()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_bias(dtype):
    runner = make_runner("phi", dtype=dtype)
    runner.model.lm_head.bias.uniform_(-0.5, 0.5)
    return runner


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("family", "changes"), [("phi", {}), ("granite", {"logits_scaling": 4.0}), ("cohere", {})])
def test_biased_heads_and_scaled_models_are_right(family, changes, dtype):
    runner = make_runner(family, dtype=dtype, **changes)
    head = runner.model.get_output_embeddings()
    if head.bias is not None:
        head.bias.uniform_(-0.5, 0.5)
    runner.verify()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("lost_by", "where"), [("logits", "chunks"), ("head_factors", "chunk scores")])
def test_a_lost_bias_of_the_head_is_seen_in_every_dtype(lost_by, where, dtype, monkeypatch):
    without = {
        "logits": lambda self, hidden: hidden @ self.lm_head().to(hidden.dtype).T,
        "head_factors": lambda self, hidden: (hidden, self.lm_head()),
    }
    monkeypatch.setattr(HFRunner, lost_by, without[lost_by])
    assert f"within 0.0001 from {where}, got" in refused(with_bias(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stage", ["_chunks", "_stored"])
def test_a_scale_that_is_a_tenth_off_is_seen_in_every_dtype(stage, dtype, monkeypatch):
    plan = getattr(checking.Check, stage)
    monkeypatch.setattr(checking.Check, stage, lambda self, layer, q, *rest: plan(self, layer, q * 1.1, *rest))
    where = {"_chunks": "chunks", "_stored": "the query over stored keys"}[stage]
    assert f"within 0.0001 from {where}, got" in refused(make_runner(dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_lost_first_key_is_seen_in_every_dtype(dtype, monkeypatch):
    whole = SlotCache.rows

    def without_first(self, layer):
        rows = whole(self, layer)
        skipped = (rows.lengths > 1).int()
        skipped[2] = 0
        return KVRows(**(vars(rows) | {"starts": rows.starts + skipped, "lengths": rows.lengths - skipped}))

    monkeypatch.setattr(SlotCache, "rows", without_first)
    assert "within 0.0001 from the query over stored keys, got" in refused(make_runner(dtype=dtype))


def test_a_decoded_key_that_is_not_stored_is_seen(monkeypatch):
    monkeypatch.setattr(SlotCache, "_append", lambda *_: None)
    assert "within 0.0001 from decoding, got" in refused(make_runner())


def test_padding_of_a_shorter_chunk_that_is_stored_is_seen(monkeypatch):
    expect = SlotCache.expect
    monkeypatch.setattr(SlotCache, "expect", lambda self, lengths: expect(self, lengths.amax().expand_as(lengths)))
    assert "within 0.0001 from the query over stored keys, got" in refused(make_runner())


class Changed:
    """A cache whose layers get other keys back than it stores, as of models that change them afterwards."""

    def __init__(self, cache):
        self.cache = cache

    def __getattr__(self, name):
        return getattr(self.cache, name)

    def update(self, k, v, layer, *args, **kwargs):
        k, v = self.cache.update(k, v, layer, *args, **kwargs)
        return k * 1.5, v


class Renumbered(Changed):
    """A cache that is asked for layers the model does not have."""

    def update(self, k, v, layer, *args, **kwargs):
        return self.cache.update(k, v, layer + 2, *args, **kwargs)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Changed, "keys or values that change after they are cached"),
        (Renumbered, "a cache that numbers its 2 layers otherwise"),
    ],
)
def test_a_cache_that_is_used_otherwise_is_refused_by_name(kind, reason, monkeypatch):
    def hand_on(module, args, kwargs):
        name = next(key for key in ("cache", "past_key_values") if kwargs.get(key) is not None)
        return args, kwargs | {name: kind(kwargs[name])}

    runner = make_runner()
    for layer in runner.model.model.layers:
        layer.self_attn.register_forward_pre_hook(hand_on, with_kwargs=True)
    monkeypatch.setattr(checking.Check, "_plain_logits", lambda self, ids: torch.ones(2, ids.shape[1], 300))
    assert f"got llama (llama) with {reason}; choose another model" in refused(runner)


def test_a_layer_without_attention_is_refused_by_name(monkeypatch):
    runner = make_runner()
    runner.model.model.layers[1].self_attn.forward = lambda hidden_states, **_: (hidden_states, None)
    assert "with 2 layers of which the attention interface sees [0]; choose" in refused(runner)


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("sliding_window", 4096, "sliding windows (sliding_window)"),
        ("softcap", 50.0, "soft-capped attention scores (softcap)"),
        ("s_aux", torch.zeros(4), "attention sinks (s_aux)"),
        ("is_causal", False, "attention that is not causal (is_causal)"),
        ("scaling", 0.3, "attention scores scaled by 0.3 where a plan scales by 0.125"),
    ],
)
def test_what_a_layer_asks_of_its_kernel_is_refused_though_short_prompts_do_not_show_it(option, value, reason):
    runner = make_runner()
    seen = checking.Seen(runner.model, *[torch.zeros(1, h, 3, 64) for h in (4, 2, 2)], None, {option: value})
    assert list(checking.beyond_a_plan(seen, runner.spec)) == [reason]


def test_what_the_models_own_code_raises_is_one_line_with_its_cause():
    runner = make_runner()

    def broken(*args, **kwargs):
        raise RuntimeError("a part\nthat is missing")

    runner.model.model.layers[1].mlp.forward = broken
    assert "got RuntimeError (a part) from its own code; choose another model" in refused(runner)


def test_no_memory_for_the_check_is_not_the_models_fault():
    runner = make_runner()
    runner.model.model.layers[1].mlp.forward = lambda *_: torch.empty(1 << 50, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match=r"allocate memory|not enough memory"):
        runner.verify()


def test_a_baseline_that_is_wrong_is_refused(monkeypatch):
    stock = HFRunner.stock_forward

    def forgets(self, ids, cache):
        logits, filled = stock(self, ids, cache)
        return (logits, filled) if cache is None else stock(self, ids, None)

    monkeypatch.setattr(HFRunner, "stock_forward", forgets)
    assert "within 0.0001 from its own SDPA attention, got" in refused(make_runner())


def test_a_model_without_sdpa_attention_is_refused():
    runner = make_runner()
    runner.model._supports_sdpa = False
    assert "with no SDPA attention, which the baseline is measured by" in refused(runner)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_that_are_not_numbers_are_refused(dtype):
    runner = make_runner(dtype=dtype)
    runner.model.model.norm.weight[3] = torch.nan
    said = refused(runner, NotFinite)
    assert "finite logits, got NaN or infinity, after finite outputs of every layer in float32; look at" in said


def test_logits_that_overflow_in_the_weights_dtype_alone_are_refused():
    runner = make_runner(dtype=torch.float16)
    for part in (runner.model.model.norm, runner.model.lm_head):
        part.weight *= 2000
    said = refused(runner, NotFinite)
    assert "finite logits, got NaN or infinity, after finite outputs of every layer in float16; look at" in said
