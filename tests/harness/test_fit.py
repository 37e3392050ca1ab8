import pytest
import torch
from tiny import continued, make_prompt, make_runner, no_stages

from pcbench.harness.kinds.methods.cells import Prepared
from pcbench.harness.kinds.methods.fit import Fit, StoreRunner, fit, largest
from pcbench.methods.full import Full, _cache_bytes
from pcbench.methods.parallel_comp import ParallelComp
from pcbench.methods.snapkv import SnapKV
from pcbench.tasks import Example


def settings_of(method, **config):
    return method.Config.model_validate(config).resolve(make_runner().spec, "cpu")


CELLS = {
    "full": (Full, {}),
    "chunks": (ParallelComp, dict(chunk_tokens=64, keep=2)),
    "evicting": (ParallelComp, dict(chunk_tokens=64, keep=2, micro_batch=2, evict=dict(capacity=24))),
    "calibrated": (ParallelComp, dict(chunk_tokens=64, keep=3, calibration="paper")),
}


@pytest.mark.parametrize("name", CELLS)
def test_what_is_allocated_without_arithmetic_is_what_a_prefill_allocates(name):
    kind, config = CELLS[name]
    runner, prompt = make_runner(), make_prompt(context=200)
    real = kind(settings_of(kind, **config), runner).prefill(prompt, no_stages)
    stores = StoreRunner(runner)
    alone = kind(settings_of(kind, **config), stores).prefill(prompt, no_stages)
    assert stores.held_bytes() == alone.kv_bytes == real.kv_bytes == real.kv_bytes_predicted
    assert alone.spans == real.spans


def test_an_automatic_micro_batch_of_a_gpu_is_bounded_by_the_budget_alone():
    config = ParallelComp.Config(chunk_tokens=16, keep=2).resolve(make_runner().spec, "cuda")
    assert ParallelComp(config, StoreRunner(make_runner())).prefill(make_prompt(), no_stages).kv_bytes > 0


def test_a_store_runner_runs_no_layer(monkeypatch):
    runner = make_runner()
    monkeypatch.setattr(type(runner.model), "forward", lambda *_, **__: pytest.fail("computes"))
    monkeypatch.setattr(type(runner.model.base_model), "forward", lambda *_, **__: pytest.fail("computes"))
    for kind, config in CELLS.values():
        assert kind(settings_of(kind, **config), StoreRunner(runner)).prefill(make_prompt(), no_stages).kv_bytes > 0


EXAMPLE = Example(
    id="0",
    task="passkey",
    prefix=(1, 2, 3),
    context=(4,) * 200,
    query=(5,) * 7,
    answers=("x",),
    key_span=None,
    prompts="pcbench/1",
    new_tokens=4,
)


def fitted(kind, budget, chunk_tokens=None, **config):
    prepared = Prepared(None, kind, settings_of(kind, **config), None, 4, "")
    return fit(prepared, make_runner(), EXAMPLE, chunk_tokens, budget)


def held_bytes(kind, prompt_tokens, **config):
    """Of a real prefill and a real answer of 4 tokens."""
    prompt = make_prompt(prefix=3, query=7, context=prompt_tokens - 14)
    prefilled, _, _ = continued(kind(settings_of(kind, **config), make_runner()), prompt, prompt.new_tokens)
    return _cache_bytes(prefilled.state) if kind is Full else prefilled.state.store.nbytes()


@pytest.mark.parametrize("evict", [None, dict(capacity=24)])
def test_the_chunks_that_fit_are_held_by_a_real_prefill_and_one_more_is_too_much(evict):
    budget = 1_000_000
    found = fitted(ParallelComp, budget, chunk_tokens=64, keep=1, evict=evict)
    assert found.budget_bytes == budget
    assert found.context_tokens == 14 + 64 * found.chunks
    for chunks, fits in ((found.chunks, True), (found.chunks + 1, False)):
        size = held_bytes(ParallelComp, 14 + 64 * chunks, chunk_tokens=64, keep=chunks, evict=evict)
        assert (size <= budget) is fits


def test_eviction_makes_room_for_more_chunks():
    kept, evicting = (
        fitted(ParallelComp, 4_000_000, chunk_tokens=64, keep=1, evict=evict) for evict in (None, dict(capacity=32))
    )
    # a slot of 96 rows (3 + 64, whole words) and one of 32, one slot beyond the kept ones
    assert (evicting.chunks + 1) == pytest.approx(3 * (kept.chunks + 1), abs=3)


def test_the_longest_context_of_full_attention_is_the_one_whose_keys_and_values_fit():
    budget = 1_000_000
    found = fitted(Full, budget)
    assert found.chunks is None
    # the new tokens are among them
    assert found.context_tokens == budget // make_runner().spec.kv_bytes(1, 4)
    assert held_bytes(Full, found.context_tokens) <= budget < held_bytes(Full, found.context_tokens + 1)


def test_the_longest_context_of_chunks_is_that_with_every_chunk_kept():
    few, more = (fitted(ParallelComp, 1_000_000, chunk_tokens=64, keep=keep) for keep in (1, 3))
    assert few == more
    # at its own keep, such a cell holds any length
    assert held_bytes(ParallelComp, few.context_tokens, chunk_tokens=64, keep=1) < 1_000_000 / 2


def test_what_ranks_share_is_asked_of_one():
    asked = []

    class Asked(ParallelComp):
        def prefill(self, prompt, stages):
            asked.append(self.config.uses_ranks)
            return super().prefill(prompt, stages)

    shared, alone = (fitted(Asked, 1_000_000, chunk_tokens=64, ranks=ranks) for ranks in ("chunks", "one"))
    assert shared == alone
    assert set(asked) == {False}


def test_a_budget_for_nothing_holds_nothing():
    assert fitted(Full, 10) == Fit(10, None, 0)
    assert fitted(ParallelComp, 10, chunk_tokens=64) == Fit(10, 0, 0)


@pytest.mark.parametrize(
    ("config", "longest"),
    [(dict(tokens=64), None), (dict(tokens=2), None), (dict(share=1.0), 488), (dict(tokens=5000), 488)],
)
def test_what_evicts_to_a_number_of_tokens_fits_at_any_length(config, longest):
    found = fitted(SnapKV, 1_000_000, **config)
    assert found == Fit(1_000_000, None, longest, any_length=longest is None)
    if longest:
        assert held_bytes(SnapKV, longest, **config) <= 1_000_000 < held_bytes(SnapKV, longest + 1, **config)


@pytest.mark.parametrize("size", [lambda n: min(10 * n, 500), lambda n: 20, lambda n: min(n, 3)])
def test_largest_has_no_end_where_size_has_one(size):
    assert largest(size, 1000) is None


def test_largest_goes_on_where_the_first_sizes_are_alike():
    assert largest(lambda n: 7 + n // 100, 17) == 1099


@pytest.mark.parametrize("size", [lambda n: 10 * n, lambda n: 7 + 3 * n, lambda n: n * n, lambda n: 32 * (n // 4 + n)])
def test_largest_asks_for_what_it_returns_and_for_one_more(size):
    asked = []

    def asking(n):
        asked.append(n)
        return size(n)

    found = largest(asking, 1000)
    assert size(found) <= 1000 < size(found + 1)
    assert {found, found + 1} <= set(asked)


def test_stores_are_on_the_models_device_in_its_dtype():
    runner = make_runner()
    stores = StoreRunner(runner)
    assert stores.new_store(2, 32).k.dtype == runner.dtype
    logits, cache = stores.stock_forward(torch.zeros(1, 5, dtype=torch.int64), None)
    assert logits.shape == (1, runner.spec.vocab)
    assert cache.layers[1].keys.shape == (1, runner.spec.kv_heads, 5, runner.spec.head_dim)
    assert cache.layers[1].keys.dtype == runner.dtype
    held = stores.held_bytes()
    assert held == runner.spec.kv_bytes(5, runner.dtype.itemsize)
    del cache
    assert stores.held_bytes() == 0
