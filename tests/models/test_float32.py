import copy

import pytest
import torch
from tiny import make_runner

from pcbench.models import float32
from pcbench.models.float32 import in_float32

FAMILIES = ("llama", "qwen2_moe")


@torch.inference_mode()
def logits(model):
    return model(input_ids=torch.arange(9)[None], use_cache=False).logits


@pytest.fixture(params=["at once", "by layers"])
def narrow(request, monkeypatch):
    """Makes a 16-bit model; as if it were too large to be widened at once, or as it is."""
    if request.param == "by layers":
        monkeypatch.setattr(float32, "AT_ONCE_BYTES", 0)
    return lambda family, dtype: make_runner(family, dtype=dtype).model


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_forwards_inside_are_those_of_the_float32_model(narrow, family, dtype):
    model = narrow(family, dtype)
    wide = copy.deepcopy(model).float()
    with in_float32(model):
        inside = logits(model)
    assert inside.dtype == torch.float32
    assert torch.allclose(inside, logits(wide), atol=1e-5)


def interrupt(*_):
    raise KeyboardInterrupt


def test_weights_and_later_forwards_are_as_before(narrow):
    model = narrow("llama", torch.bfloat16)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    outside = logits(model)
    second = model.model.layers[1].mlp.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt), in_float32(model):
        logits(model)
    second.remove()
    after = model.state_dict()
    assert {x.dtype for x in after.values()} == {torch.bfloat16}
    assert all(torch.equal(after[name], x) for name, x in before.items())
    assert torch.equal(logits(model), outside)


@pytest.mark.parametrize("inference", [False, True])
def test_weights_that_were_made_in_inference_mode_or_not_stay_so(narrow, inference):
    with torch.inference_mode(inference):
        model = narrow("llama", torch.bfloat16)
    with in_float32(model):
        logits(model)
    assert {x.is_inference() for x in model.parameters()} == {inference}
    assert {x.dtype for x in model.parameters()} == {torch.bfloat16}


def test_a_large_model_is_widened_layer_by_layer(monkeypatch):
    monkeypatch.setattr(float32, "AT_ONCE_BYTES", 0)
    model, seen = make_runner(dtype=torch.bfloat16).model, []
    first, second = model.model.layers
    second.register_forward_pre_hook(lambda *_: seen.append(first.mlp.up_proj.weight.dtype))
    with in_float32(model):
        logits(model)
    assert seen == [torch.bfloat16]


def test_float32_weights_are_left_alone():
    model = make_runner().model
    places = [x.data_ptr() for x in model.parameters()]
    with in_float32(model):
        assert [x.data_ptr() for x in model.parameters()] == places
