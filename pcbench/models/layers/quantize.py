"""Weights of 8 and 4 bits: linear layers that another library quantises while a model is loaded, and runs."""

import logging
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, TorchAoConfig

from pcbench.errors import ConfigError, PcbenchError
from pcbench.models.quiet import quietly, said
from pcbench.ops.no_memory import is_out_of_memory

__all__ = [
    "SCHEMES",
    "Scheme",
    "by_library",
    "described",
    "is_quantised",
    "plainly",
    "quantised",
    "weight_bytes",
    "why_absent",
]

# of the bytes that a scheme says, by which a model's may differ
TOLERANCE = 0.02
LAYER_NUMBER = re.compile(r"\.\d+(?=\.|$)")


@dataclass(frozen=True)
class Scheme:
    """How a linear layer's weight is stored.

    Args:
        package: that makes and multiplies it.
        title: what its authors call it, with what is chosen here.
        bits: of a weight.
        group: weights that share a scale; None: a row of the layer's weight does.
    """

    package: str
    title: str
    bits: int
    group: int | None

    def nbytes(self, rows: int, columns: int, scale_bytes: int) -> int:
        """Of a layer's weight [rows, columns] with its scales."""
        scales = rows if self.group is None else math.ceil(rows * columns / self.group)
        return rows * columns * self.bits // 8 + scales * scale_bytes

    def config(self, dtype: torch.dtype) -> Any:
        """What transformers is told; layers compute in `dtype`."""
        if self.package == "torchao":
            from torchao.quantization import Float8WeightOnlyConfig

            return TorchAoConfig(Float8WeightOnlyConfig())
        if self.bits == 8:
            return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=6.0)
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


# int8: arXiv 2208.07339; its columns of activations beyond 6 are multiplied in the model's dtype. int4: arXiv
# 2305.14314, without its second quantisation of the scales
SCHEMES: Mapping[str, Scheme] = {
    "int8": Scheme("bitsandbytes", "LLM.int8(), outliers beyond 6", 8, None),
    "int4": Scheme("bitsandbytes", "NF4", 4, 64),
    "fp8": Scheme("torchao", "float8_e4m3fn, weights alone", 8, None),
}


def why_absent(name: str) -> str | None:
    """Why weights cannot be stored so here; None where the library is installed."""
    package = SCHEMES[name].package
    if find_spec(package) is not None:
        return None
    return f"--quantize: {package} for {name}, got no such package; pip install 'pcbench[quantize]'"


def quantised(name: str, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Arguments of `from_pretrained` that quantise weights while they are read, on their device.

    Raises:
        ConfigError: the library is not installed.
    """
    if (absent := why_absent(name)) is not None:
        raise ConfigError(absent)
    # it warns in every layer of every forward that activations are rounded
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with quietly():
        return {"quantization_config": SCHEMES[name].config(dtype), "device_map": {"": device}}


@contextmanager
def by_library(name: str | None, model: str, device: torch.device) -> Iterator[None]:
    """What the library of a scheme raises inside, as one line.

    Args:
        name: of the scheme; without one errors are as they are.
        model: whose weights they are.
        device: where they go.
    """
    try:
        yield
    except PcbenchError:
        raise
    # kernels that are not there for a device or a shape are said in many ways
    except Exception as error:
        if name is None or is_out_of_memory(error):
            raise
        package = SCHEMES[name].package
        raise ConfigError(
            f"--quantize: {name} weights of {model} by {package} {version(package)} on {device}, got {said(error)}; "
            "leave it out or take another version of the library"
        ) from error


def is_quantised(model: Any) -> bool:
    """Whether a model has linear layers whose weight is quantised."""
    return any(True for _ in _layers(model))


@contextmanager
def plainly(model: Any) -> Iterator[None]:
    """Quantised layers of `model` that run inside multiply by the numbers that they store, in the dtype they read.

    Without kernels of the library and without rounded activations; to be used before the first forward of a model,
    in which a library may pack its weights anew.
    """
    layers = [layer for _, layer in _layers(model)]
    before = [vars(layer).get("forward") for layer in layers]
    for layer in layers:
        layer.forward = partial(_plain_linear, layer)
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            if own is None:
                del layer.forward
            else:
                layer.forward = own


def _plain_linear(layer: Any, x: Tensor) -> Tensor:
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return nn.functional.linear(x, _dequantised(layer).to(x.dtype), bias)


def weight_bytes(model: Any) -> int:
    """Bytes of a model's weights: every storage once, with scales and tables of quantised layers."""
    found = {(x.device, x.untyped_storage().data_ptr()): x.untyped_storage().nbytes() for x in _stored(model)}
    return sum(found.values())


def described(name: str, model: Any, where: str) -> dict[str, Any]:
    """What a record says of a model's quantised weights.

    Args:
        name: of the scheme.
        model: after its first forward, in which a library may pack its weights anew.
        where: the model's name.

    Returns:
        library, version and scheme; bits of a weight, group_size (weights of a scale; null: a row), scale_dtype;
        layers that are quantised; scheme_bytes, those that the scheme says of all weights, and left_alone, the modules
        whose weights are as they were, layers of one name under one pattern.

    Raises:
        ConfigError: no layer is quantised, or the weights take other bytes than the scheme says.
    """
    scheme, layers = SCHEMES[name], dict(_layers(model))
    if not layers:
        raise ConfigError(f"--quantize: a model with linear layers, got {where} without; leave it out")
    scales = next(iter(map(_scales, layers.values())))
    kept = {id(p): p for m in model.modules() for key, p in m.named_parameters(recurse=False) if not _in(m, key)}
    nbytes = sum(p.numel() * p.element_size() for p in kept.values())
    nbytes += sum(scheme.nbytes(x.out_features, x.in_features, scales.element_size()) for x in layers.values())
    found = weight_bytes(model)
    if abs(found - nbytes) > TOLERANCE * nbytes:
        raise ConfigError(
            f"--quantize: {nbytes:,} bytes of weights of {where} as {scheme.title} stores them, got {found:,}; "
            f"take another version of {scheme.package}"
        )
    alone = [LAYER_NUMBER.sub(".*", key) for key, m in model.named_modules() if m._parameters and key not in layers]
    return {
        "library": scheme.package,
        "version": version(scheme.package),
        "scheme": scheme.title,
        "bits": scheme.bits,
        "group_size": scheme.group,
        "scale_dtype": str(scales.dtype).removeprefix("torch."),
        "layers": len(layers),
        "scheme_bytes": nbytes,
        "left_alone": list(dict.fromkeys(alone)),
    }


def _in(module: Any, key: str) -> bool:
    """Whether a parameter is a quantised weight; a layer's bias stays as it was."""
    return key == "weight" and _is_quantised(module)


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Name and module of the linear layers whose weight is quantised."""
    yield from ((name, module) for name, module in model.named_modules() if _is_quantised(module))


def _is_quantised(module: Any) -> bool:
    """By its numbers or by its kind of tensor, which libraries bring."""
    if not isinstance(module, nn.Linear):
        return False
    data = module.weight.data
    return type(data) is not Tensor or not data.is_floating_point()


def _scales(layer: Any) -> Tensor:
    """Of bitsandbytes in 4 bits, of torchao, and of bitsandbytes in 8 bits before and after the first forward."""
    weight = layer.weight
    if (state := getattr(weight, "quant_state", None)) is not None:
        return state.absmax
    if hasattr(weight, "scale"):
        return weight.scale
    return layer.state.SCB if weight.SCB is None else weight.SCB


def _dequantised(layer: Any) -> Tensor:
    """[out, in] the numbers that a layer stores."""
    weight = layer.weight
    if type(weight.data) is not Tensor:
        return weight.dequantize()
    from bitsandbytes import functional

    if (state := getattr(weight, "quant_state", None)) is not None:
        return functional.dequantize_4bit(weight.data, state)
    return functional.int8_vectorwise_dequant(weight.data, _scales(layer))


def _stored(model: Any) -> Iterator[Tensor]:
    """Plain tensors of which weights consist; scales may hang on a weight or on its layer."""
    for module in model.modules():
        # where bitsandbytes keeps 8 bits and their scales after the first forward
        state = getattr(module, "state", None)
        for x in (*module._parameters.values(), getattr(state, "CB", None), getattr(state, "SCB", None)):
            if x is not None:
                yield from _plain_parts(x)


def _plain_parts(x: Tensor) -> Iterator[Tensor]:
    if type(x.data) is Tensor:
        if x.device.type != "meta":
            yield x
    else:
        for name in x.__tensor_flatten__()[0]:  # type: ignore[attr-defined]
            yield from _plain_parts(getattr(x, name))
    yield from _tensors(x)
    yield from _tensors(getattr(x, "quant_state", None))


def _tensors(holder: Any) -> Iterator[Tensor]:
    """Attributes that are plain tensors."""
    yield from (x for x in getattr(holder, "__dict__", {}).values() if type(x) is Tensor)
