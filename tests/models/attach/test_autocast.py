"""Attached methods under autocast, which casts the matmuls around attention and would cast those in it."""

import pytest
import torch
from tiny import make_runner

from pcbench import attach
from pcbench.methods.dual_chunk import plan as plans

BATCH = {"input_ids": torch.randint(1, 300, (2, 40), generator=torch.Generator().manual_seed(0))}
NARROW = {"device_type": "cpu", "dtype": torch.bfloat16}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_training_step_computes_attention_in_float32(dtype, monkeypatch):
    """As Trainer takes it with bf16: forwards under autocast, of weights in either dtype."""
    model, seen, real = make_runner(dtype=dtype).model.requires_grad_(True).train(), [], plans.reference

    class Watching:
        @staticmethod
        def dual_chunk_attention(q, *arrays, **options):
            out, lse = real.dual_chunk_attention(q, *arrays, **options)
            seen.append((q, arrays, options, out, lse))
            return out, lse

    monkeypatch.setattr(plans, "reference", Watching)
    with attach(model, "dual_chunk", period=8, clip=12):
        with torch.autocast(**NARROW):
            loss = model(**BATCH).logits.square().mean()
        loss.backward()
    assert len(seen) == 2
    for q, arrays, options, *found in seen:
        assert {x.dtype for x in (q, *arrays[:2])} == {dtype}
        assert all(map(torch.equal, found, real.dual_chunk_attention(q, *arrays, **options)))
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("method", "config"), [("dual_chunk", {}), ("snapkv", {"tokens": 100}), ("h2o", {"tokens": 100})]
)
@torch.no_grad()
def test_a_model_of_float32_generates_under_autocast(method, config):
    """Methods that change nothing here."""
    model = make_runner("smollm3", no_rope_layers=[1, 0]).model

    def logits():
        options = {"do_sample": False, "pad_token_id": 0, "return_dict_in_generate": True, "output_logits": True}
        return torch.stack(model.generate(**BATCH, max_new_tokens=4, **options).logits)

    with torch.autocast(**NARROW):
        truth = logits()
        with attach(model, method, **config):
            found = logits()
    assert (found - truth).norm() < 0.02 * truth.norm()
