"""What is asked of a model that a program hands over, and what is read of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pcbench.errors import ConfigError
from pcbench.models.support import STATIC_ROPE, check_one_dtype, check_supported, read_spec
from pcbench.types import DeviceKind, ModelSpec

__all__ = ["check_eval", "check_model", "device_kind", "evaluated", "given_spec"]


def check_model(model: Any, where: str) -> None:
    """Refuses what is no model of Hugging Face, and one inside which a method works already.

    Raises:
        ConfigError: names `where` it was handed over.
    """
    if not isinstance(model, torch.nn.Module) or not all(hasattr(model, name) for name in ("config", "generate")):
        raise ConfigError(
            f"{where}: model: a Hugging Face *ForCausalLM, got {type(model).__name__}; load it by AutoModelForCausalLM"
        )
    other = getattr(vars(model).get("forward"), "attached", None)
    if other is not None:
        raise ConfigError(f"{where}: model: one without a method, got one with {other.method} attached; detach it")


def check_eval(model: Any) -> None:
    """Refuses a model in train mode.

    Raises:
        ConfigError: it is.
    """
    if model.training:
        raise ConfigError("attach: a model in eval mode, got one in train mode; call model.eval()")


@contextmanager
def evaluated(model: Any) -> Iterator[None]:
    """The model in eval mode inside, each of its modules as before afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def given_spec(model: Any, *, dynamic: bool = False) -> ModelSpec:
    """The numbers of a model, named by its folder or else its class.

    Args:
        model: which.
        dynamic: its rotary frequencies may move with the length of a text.

    Raises:
        ConfigError: an architecture that is not supported, or weights of several dtypes.
    """
    name = str(getattr(model.config, "_name_or_path", "") or getattr(model, "name_or_path", "") or type(model).__name__)
    check_supported(name, model.config, (*STATIC_ROPE, "dynamic") if dynamic else STATIC_ROPE)
    check_one_dtype(name, model)
    return read_spec(name, model)


def device_kind(model: Any) -> DeviceKind:
    """What the model's weights lie on."""
    return "cpu" if model.device.type == "cpu" else "rocm" if torch.version.hip else "cuda"
