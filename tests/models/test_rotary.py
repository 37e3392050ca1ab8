"""How keys turn with their position, for every layout that models have."""

import pytest
import torch
from tiny import make_runner

from pcbench.errors import ConfigError
from pcbench.types import no_stages

# halves, pairs, pairs of a part, halves of a part, a layer without, the other way
FAMILIES = {
    "llama": {},
    "cohere": {},
    "glm": {"partial_rotary_factor": 0.5},
    "stablelm": {"partial_rotary_factor": 0.25, "hidden_size": 256},
    "smollm3": {"no_rope_layers": [1, 0]},
    "nanochat": {"final_logit_softcapping": None},
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}


def queries_and_keys(runner, ids, start):
    """Of every layer, [H, T, D] and [Hkv, T, D], of a text that begins at a position."""
    found = []

    def plan(layer, q, k, v, store, ops):
        found.append((q[0], k[0]))
        return ops.calibrated_attention(q, k, v, scale=runner.spec.scale, causal=True)[0]

    store = runner.new_store(1, ids.numel())
    store.begin(torch.zeros(1, dtype=torch.int32))
    lengths = torch.tensor([ids.numel()], dtype=torch.int32)
    runner.forward(ids[None], start + torch.arange(ids.numel())[None], lengths, store, plan, no_stages)
    return found


@pytest.mark.parametrize("family", [*FAMILIES, "yarn"])
def test_rotated_keys_and_queries_are_those_of_a_later_text(family):
    changes = FAMILIES.get(family, {"rope_parameters": YARN})
    runner = make_runner("llama" if family == "yarn" else family, **changes)
    ids = torch.randint(1, 300, (20,), generator=torch.Generator().manual_seed(0))
    here, later = (queries_and_keys(runner, ids, start) for start in (3, 53))
    assert any(not torch.allclose(k, k2, atol=1e-2) for (_, k), (_, k2) in zip(here, later, strict=True))
    for layer, (ours, truths) in enumerate(zip(here, later, strict=True)):
        for rows, truth in zip(ours, truths, strict=True):
            for by in (torch.tensor(50), torch.full((20,), 50)):
                torch.testing.assert_close(runner.rotary.rotated(layer, rows, by), truth, rtol=1e-4, atol=1e-4)
            back = runner.rotary.rotated(layer, truth, torch.tensor(-50))
            torch.testing.assert_close(back, rows, rtol=1e-4, atol=1e-4)


def test_rotated_keys_of_16_bits_stay_what_they_are():
    runner = make_runner(dtype=torch.bfloat16)
    keys = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(runner.rotary.rotated(0, keys, torch.tensor(0)), keys)
    wide = make_runner().rotary.rotated(0, keys.double(), torch.tensor(1000))
    torch.testing.assert_close(runner.rotary.rotated(0, keys, torch.tensor(1000)).double(), wide, rtol=1e-2, atol=1e-2)


def test_a_model_that_turns_its_keys_otherwise_is_refused():
    runner = make_runner("hunyuan_v1_dense")
    # a norm with weights behind the rotation
    layer = runner.model.model.layers[1].self_attn
    layer.key_layernorm.weight.copy_(torch.linspace(0.5, 2, 64))
    with pytest.raises(ConfigError, match=r"got hunyuan_v1_dense \(hunyuan_v1_dense\), whose layer 1 does otherwise"):
        _ = runner.rotary
