"""Weights that a library quantises: what they take, how far they are from the model's own, and what is refused."""

import math

import pytest
import torch

from pcbench import ops
from pcbench.errors import ConfigError
from pcbench.models import load_runner
from pcbench.models.layers import quantize
from pcbench.models.layers.quantize import by_library, described, plainly, weight_bytes

CPU = torch.device("cpu")
# scheme → bits of a weight with its part of a scale, as the papers say; rows of random:tiny have 128 weights or more
PACKAGES = {"int8": "bitsandbytes", "int4": "bitsandbytes", "fp8": "torchao"}


def loaded(scheme=None, dtype=torch.bfloat16, **more):
    return load_runner("random:tiny", CPU, dtype, ops.backend("reference"), quantize=scheme, **more)


@pytest.fixture(scope="module", params=PACKAGES)
def scheme(request):
    pytest.importorskip(PACKAGES[request.param], reason=f"{request.param} weights need {PACKAGES[request.param]}")
    return request.param


@pytest.fixture(scope="module")
def quantised(scheme):
    return loaded(scheme)


@pytest.fixture(scope="module")
def own():
    return loaded()


def linears(runner):
    """Linear layers by name, without the head."""
    found = {name: x for name, x in runner.model.named_modules() if isinstance(x, torch.nn.Linear)}
    found.pop("lm_head")
    return found


def test_bytes_are_the_schemes(scheme, quantised, own):
    shapes = [x.weight.shape for x in linears(own).values()]
    rest = own.spec.parameters - sum(map(math.prod, shapes))
    scale = getattr(torch, quantised.quantization["scale_dtype"]).itemsize
    of_scheme = {
        "int8": lambda rows, columns: rows * columns + rows * scale,
        "int4": lambda rows, columns: rows * columns / 2 + rows * columns / 64 * scale,
        "fp8": lambda rows, columns: rows * columns + rows * scale,
    }[scheme]
    wanted = 2 * rest + sum(of_scheme(*shape) for shape in shapes)
    assert weight_bytes(quantised.model) == pytest.approx(wanted, rel=0.02)
    assert quantised.quantization["scheme_bytes"] == wanted
    assert weight_bytes(own.model) == 2 * own.spec.parameters
    assert quantised.spec.parameters == own.spec.parameters


def test_a_record_says_what_was_left_alone(scheme, quantised, own):
    said = quantised.quantization
    assert (said["library"], said["layers"], said["bits"]) == (PACKAGES[scheme], 14, 4 if scheme == "int4" else 8)
    norms = ["model.layers.*.input_layernorm", "model.layers.*.post_attention_layernorm", "model.norm"]
    assert said["left_alone"] == ["model.embed_tokens", *norms, "lm_head"]
    assert own.quantization is None


def test_stored_numbers_are_the_nearest_of_the_scheme(scheme, own):
    # a model that has made no forward: a library may pack its weights in the first
    how = quantize.quantised(scheme, CPU, torch.bfloat16)
    model = type(own.model).from_pretrained(
        None, config=own.model.config, state_dict=own.model.state_dict(), dtype=torch.bfloat16, **how
    )
    layers = dict(model.named_modules())
    with plainly(model), torch.inference_mode():
        for name, layer in linears(own).items():
            truth = layer.weight.float()
            found = layers[name](torch.eye(truth.shape[1])).T
            rows = truth if scheme != "int4" else truth.reshape(-1, 64)
            largest = rows.abs().amax(1, keepdim=True)
            # half a step: of 127 levels, of the widest gap of NF4, of 3 bits behind the leading one
            step = {"int8": largest / 254, "int4": largest * 0.152, "fp8": rows.abs() / 16 + largest / 448 / 512}
            error = (found.reshape(rows.shape) - rows).abs()
            # scales and half-precision sources round once more
            assert (error <= step[scheme] * 1.02 + largest * 1e-3).all(), name
            assert error.max() > 0
    assert not any("forward" in vars(layer) for layer in layers.values())


@torch.inference_mode()
def test_the_librarys_kernels_compute_with_those_numbers(scheme, quantised, own):
    ids = torch.arange(40)[None] % own.spec.vocab
    ours, theirs = (runner.model(ids).logits.float() for runner in (own, quantised))
    error = float((ours - theirs).norm() / ours.norm())
    assert 1e-3 < error < {"int8": 0.05, "int4": 0.3, "fp8": 0.1}[scheme]


def test_another_scheme_than_asked_for_is_found_by_its_bytes(scheme, quantised, monkeypatch):
    other = "int8" if scheme == "int4" else "int4"
    with pytest.raises(
        ConfigError, match=r"^--quantize: [\d,]+ bytes of weights of tiny as .* stores them, got [\d,]+; "
    ):
        described(other, quantised.model, "tiny")


def test_a_model_without_quantised_layers_is_refused(own):
    with pytest.raises(ConfigError, match=r"^--quantize: a model with linear layers, got tiny without; leave it out$"):
        described("int8", own.model, "tiny")


@pytest.mark.parametrize(("scheme", "package"), PACKAGES.items())
def test_a_library_that_is_not_there_is_one_line(scheme, package, monkeypatch):
    monkeypatch.setattr(quantize, "find_spec", lambda name: None)
    said = rf"^--quantize: {package} for {scheme}, got no such package; pip install 'pcbench\[quantize\]'$"
    with pytest.raises(ConfigError, match=said):
        loaded(scheme)


def test_what_a_library_raises_is_one_line():
    pytest.importorskip("bitsandbytes", reason="its version is in the message")
    with (
        pytest.raises(
            ConfigError, match=r"^--quantize: int8 weights of m by bitsandbytes [\d.]+ on cpu, got Run.*: a; l"
        ),
        by_library("int8", "m", CPU),
    ):
        raise RuntimeError("a\nb")
    with pytest.raises(RuntimeError, match="a"), by_library(None, "m", CPU):
        raise RuntimeError("a")


def test_several_devices_are_refused():
    with pytest.raises(ConfigError, match=r"^--quantize: a model on one device, got device_map auto; leave one"):
        loaded("int8", device_map="auto")
