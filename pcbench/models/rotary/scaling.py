"""Other rotary frequencies in an unmodified model: its own rotary modules, made anew from a changed config."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pcbench.errors import ConfigError

__all__ = ["Swapped", "scaled", "swap", "swapped"]


@dataclass(frozen=True, eq=False)
class Swapped:
    """A rotary module of a model, or the function of its code that rotates, and what stands in its place.

    Args:
        parent: the module that holds it; of a function, the one of Python.
        name: by which.
        own: the model's.
        other: with other frequencies, or compiled.
    """

    parent: Any
    name: str
    own: Any
    other: Any


def scaled(model: Any, name: str, scaling: str, factor: float, trained_tokens: int) -> list[Swapped]:
    """Rotary modules of a model, each beside one whose frequencies transformers made from a scaled config.

    Args:
        model: a `*ForCausalLM` whose frequencies are not scaled.
        name: of the model, for messages.
        scaling: linear, dynamic or yarn: `ROPE_INIT_FUNCTIONS` of transformers; ntk: the default with a base that is
            factor^(R / (R − 2)) times as large, for R channels that turn, so that the slowest pair turns `factor`
            times slower and the fastest one as before (what dynamic with factor 1 gives at `factor` times the trained
            length).
        factor: how many times longer a text may be.
        trained_tokens: than in training.

    Raises:
        ConfigError: the model has no rotary module that is made from its config, or it is scaled already.
    """
    found = []
    for parent in model.modules():
        for child, own in parent.named_children():
            frequencies, config = getattr(own, "inv_freq", None), getattr(own, "config", None)
            if not isinstance(frequencies, Tensor) or config is None:
                continue
            kind = getattr(own, "rope_type", None)
            if kind != "default":
                raise ConfigError(
                    f"--model: {name}: rotary frequencies that are not scaled (rope_type default), got {kind}; "
                    "choose another model, or its own scaling with method full"
                )
            changed = _config(config, scaling, factor, trained_tokens, 2 * frequencies.numel())
            found.append(Swapped(parent, child, own, _made(own, changed)))
    if not found:
        raise ConfigError(
            f"--model: {name}: a rotary embedding that is made from its config, got none; choose another model"
        )
    return found


@contextmanager
def swapped(modules: Sequence[Swapped]) -> Iterator[None]:
    """The others in their places inside."""
    swap(modules)
    try:
        yield
    finally:
        swap(modules, back=True)


def swap(modules: Sequence[Swapped], *, back: bool = False) -> None:
    """Puts the others in their places, or the model's own `back`."""
    for x in modules:
        setattr(x.parent, x.name, x.own if back else x.other)


def _config(config: Any, scaling: str, factor: float, trained_tokens: int, channels: int) -> Any:
    changed = copy.deepcopy(config)
    changed.max_position_embeddings = trained_tokens
    rope = dict(changed.rope_parameters)
    if scaling == "ntk":
        rope["rope_theta"] *= factor ** (channels / (channels - 2))
    else:
        rope |= {"rope_type": scaling, "factor": factor}
    if scaling == "yarn":
        rope["original_max_position_embeddings"] = trained_tokens
    changed.rope_parameters = rope
    return changed


def _made(own: Any, config: Any) -> Any:
    return type(own)(config=config).to(own.inv_freq.device).train(own.training)
