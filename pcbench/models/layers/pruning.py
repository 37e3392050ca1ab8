"""Prompts of which a layer reads fewer tokens than the one before it."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pcbench.models.layers import before_layers, decoder_layers
from pcbench.models.support import refusal
from pcbench.types import ModelSpec, Rows

__all__ = ["pruned"]

# what a layer is handed beside its hidden states, with a row a token
BY_TOKEN = ("position_embeddings", "position_ids", "cache_position")


@contextmanager
def pruned(model: Any, spec: ModelSpec, rows: Rows) -> Iterator[None]:
    """Forwards inside go on behind each layer with the tokens that `rows` names.

    Raises:
        ConfigError: the model's layers are not handed the rotary embedding of their tokens, or more by token than
            that.
    """
    layers = decoder_layers(model, spec)
    if not all("position_embeddings" in inspect.signature(layer.forward).parameters for layer in layers):
        reason = "layers that are not handed position_embeddings, without which no token can be left out between them"
        raise refusal(spec.name, model.config, [reason])

    def hook(layer: int) -> Callable[..., Any]:
        return Pruned(model, spec, rows, layer)

    with before_layers(layers, hook):
        yield


@dataclass(frozen=True)
class Pruned:
    """A forward-pre-hook of one layer."""

    model: Any
    spec: ModelSpec
    rows: Rows
    layer: int

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        found = self.rows(self.layer)
        if found is None:
            return None
        of_previous, of_prompt = found
        hidden = args[0] if args else kwargs["hidden_states"]
        self._check(hidden, args, kwargs)
        taken = {name: self._taken(kwargs[name], of_prompt) for name in BY_TOKEN if kwargs.get(name) is not None}
        if of_previous is not None:
            index = of_previous.to(hidden.device)[..., None].expand(-1, -1, hidden.shape[2])
            hidden = hidden.gather(1, index)
        return (hidden,), {name: x for name, x in kwargs.items() if name != "hidden_states"} | taken

    def _check(self, hidden: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        others = {name: x for name, x in kwargs.items() if name not in (*BY_TOKEN, "hidden_states")}
        strange = [name for name, x in others.items() if isinstance(x, Tensor)]
        if strange or len(args) > 1:
            reason = f"layers that are handed {', '.join(strange) or 'unnamed arguments'} beside their tokens"
            raise refusal(self.spec.name, self.model.config, [reason])

    def _taken(self, value: Any, index: Tensor) -> Any:
        """The rows [B, M] of one tensor or several: of [T], [1 or B, T] or [1 or B, T, D]."""
        if isinstance(value, tuple | list):
            return type(value)(self._taken(x, index) for x in value)
        index = index.to(value.device)
        if value.dim() == 1:
            return value[index[0]]
        by_row = value.expand(len(index), *value.shape[1:])
        return by_row.gather(1, index.view(*index.shape, *[1] * (value.dim() - 2)).expand(-1, -1, *value.shape[2:]))
