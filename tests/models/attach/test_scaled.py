"""Scaled frequencies inside a model."""

import pytest
import torch
from tiny import make_runner, with_rope

from pcbench import attach
from pcbench.errors import ConfigError

BASE = {"rope_type": "default", "rope_theta": 10000.0}
SCALED = {
    "pi": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 3.0},
    "yarn": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 3.0, "original_max_position_embeddings": 32},
    "ntk": {"rope_type": "default", "rope_theta": 10000.0 * 3.0 ** (64 / 62)},
}


def generated(model, ids):
    options = {"do_sample": False, "pad_token_id": 0, "return_dict_in_generate": True, "output_logits": True}
    return model.generate(input_ids=ids, max_new_tokens=6, **options)


@pytest.mark.parametrize("kind", SCALED)
def test_scaled_frequencies_are_a_model_with_that_config(kind):
    model = make_runner(trained_tokens=32, rope_parameters=dict(BASE)).model
    batch = torch.randint(1, 300, (2, 41), generator=torch.Generator().manual_seed(0))
    other = with_rope(model, SCALED[kind])
    before = generated(model, batch)
    with attach(model, "rope_scaling", type=kind, factor=3.0) as handle:
        found, truth = generated(model, batch), generated(other, batch)
        assert found.sequences.tolist() == truth.sequences.tolist()
        assert torch.equal(torch.stack(found.logits), torch.stack(truth.logits))
        with pytest.raises(ConfigError, match="report: a method with a cache of its own, got rope_scaling"):
            handle.report()
        with pytest.raises(ConfigError, match="got one with rope_scaling attached; detach it"):
            attach(model, "snapkv")
    assert torch.equal(torch.stack(generated(model, batch).logits), torch.stack(before.logits))
    handle.detach()
