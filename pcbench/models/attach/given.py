"""What is asked of a model that a program hands over, and what is read of it."""

from typing import Any

import torch

from pcbench.errors import ConfigError
from pcbench.models.support import check_one_dtype, check_supported, read_spec
from pcbench.types import DeviceKind, ModelSpec

__all__ = ["check_model", "device_kind", "given_spec"]


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


def given_spec(model: Any) -> ModelSpec:
    """The numbers of a model, named by its folder or else its class.

    Raises:
        ConfigError: an architecture that is not supported, or weights of several dtypes.
    """
    name = str(getattr(model.config, "_name_or_path", "") or getattr(model, "name_or_path", "") or type(model).__name__)
    check_supported(name, model.config)
    check_one_dtype(name, model)
    return read_spec(name, model)


def device_kind(model: Any) -> DeviceKind:
    """What the model's weights lie on."""
    return "cpu" if model.device.type == "cpu" else "rocm" if torch.version.hip else "cuda"
