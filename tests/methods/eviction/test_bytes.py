"""`kv_bytes` against the tensors of a store, and against what torch says that a prefill leaves allocated."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from pcbench.types import no_stages
from tests.methods.eviction.test_methods import make
from tests.tiny import make_prompt, make_runner

# kv-heads: the sizes of uncomp's groups differ, chai's heads share two keys, adakv's a budget
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 4}
SEGMENTS = 2 * 4
STORES = ("pcbench.models.stores", "pcbench.reference.quantized")
GROUPS = {"head_groups": ["0011", "1010"], "tokens": 48}
CASES = {
    "grow": ("snapkv", {"tokens": 48}),
    "context": ("pyramidkv", {"tokens": 48, "compress": "context"}),
    "shared budget": ("adakv", {"tokens": 48}),
    "shared keys": ("chai", {"clusters": [2, 3]}),
    "sums": ("h2o", {"tokens": 48}),
    "sinks again": ("streaming_llm", {"tokens": 48}),
    "ragged": ("uncomp", GROUPS),
    "ragged, grow": ("uncomp", GROUPS | {"decode": "grow"}),
    "a group beyond the prompt": ("uncomp", {"head_groups": GROUPS["head_groups"], "group_tokens": [20, 190]}),
    "removed heads": ("uncomp", {"head_groups": ["-011", "01-1"], "tokens": 48}),
    "codes": ("snapkv", {"tokens": 80, "kv_dtype": "int8"}),
    "codes of a shared budget": ("adakv", {"tokens": 80, "kv_dtype": "int4"}),
    "rolling window": ("snapkv", {"tokens": 48, "preset": "uncomp-released", "window": 12}),
}


def storages(x, found):
    """Storages of all tensors in an object of the store, by where they lie: floats with codes, and others apart."""
    if torch.is_tensor(x):
        found[x.is_floating_point() or x.itemsize == 1][x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
    elif isinstance(x, list | tuple):
        for one in x:
            storages(one, found)
    elif hasattr(x, "__dict__") and type(x).__module__.startswith(STORES):
        storages([*vars(x).values()], found)
    return found


@pytest.mark.parametrize("case", CASES)
def test_bytes_are_those_that_a_prefill_leaves_allocated_and_that_its_store_holds_to_the_end(case):
    name, config = CASES[case]
    runner = make_runner(backend="cpu", **HEADS)
    method, prompt = make(name, runner, **config), make_prompt(context=150, new_tokens=20)
    # what a first pass loads stays
    method.prefill(prompt, no_stages)
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        prefilled = method.prefill(prompt, no_stages)
    store = prefilled.state.store
    positions = 4 * sum(len(v) for v in store.v)
    left = sum(event.self_cpu_memory_usage for event in seen.events())
    beside = prefilled.logits.numel() * 4 + positions
    # and a few numbers a segment
    assert 0 <= left - prefilled.kv_bytes - beside <= SEGMENTS * 64
    for step in range(20):
        held = storages(store, {True: {}, False: {}})
        assert sum(held[True].values()) == prefilled.kv_bytes == prefilled.kv_bytes_predicted, step
        assert sum(held[False].values()) <= positions + SEGMENTS * 64
        with torch.inference_mode():
            method.step(prefilled, torch.tensor([step]))
