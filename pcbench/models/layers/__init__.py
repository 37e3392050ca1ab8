"""The decoder layers of a model, and what each of them reads."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from pcbench.models.support import refusal
from pcbench.types import ModelSpec

__all__ = ["before_layers", "decoder_layers", "read_by_layers"]


def decoder_layers(model: Any, spec: ModelSpec) -> list[torch.nn.Module]:
    """The modules that hidden states go through one after another.

    Raises:
        ConfigError: the model has no list of as many layers, each with the attention of its number.
    """
    for module in model.base_model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == spec.layers:
            numbers = [{getattr(part, "layer_idx", None) for part in layer.modules()} - {None} for layer in module]
            if numbers == [{i} for i in range(spec.layers)]:
                return list(module)
    raise refusal(spec.name, model.config, [f"no list of its {spec.layers} layers"])


@contextmanager
def read_by_layers(model: Any, spec: ModelSpec, see: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Inside, `see` is shown the number of every layer that runs and what it reads, [B, T, E]."""

    def hook(layer: int) -> Callable[..., None]:
        return lambda module, args, kwargs: see(layer, args[0] if args else kwargs["hidden_states"])

    with before_layers(decoder_layers(model, spec), hook):
        yield


@contextmanager
def before_layers(layers: list[torch.nn.Module], hook: Callable[[int], Callable[..., Any]]) -> Iterator[None]:
    """Inside, `hook(i)` runs before layer i: (module, args, kwargs) → None, or other args and kwargs."""
    with ExitStack() as stack:
        for i, layer in enumerate(layers):
            stack.callback(layer.register_forward_pre_hook(hook(i), with_kwargs=True).remove)
        yield
