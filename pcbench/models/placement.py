"""Models larger than one GPU: accelerate puts their layers on several; keys, values and ops stay where the head is."""

from typing import Any

import torch
from accelerate import dispatch_model, infer_auto_device_map
from accelerate.utils import get_balanced_memory

from pcbench.errors import ConfigError

__all__ = ["spread"]


def spread(model: Any, device_map: str | dict[str, Any], dtype: torch.dtype) -> Any:
    """The model with its parts where `device_map` says.

    Args:
        model: on the CPU.
        device_map: "auto" balances whole layers over the GPUs; else accelerate's table of part → device.
        dtype: of the weights.

    Raises:
        ConfigError: "auto" with fewer than two GPUs, or the GPUs together do not hold the weights.
    """
    if device_map == "auto":
        device_map = _balanced(model, dtype)
    elif isinstance(device_map, str):
        raise ConfigError(f'device_map: "auto" or a table of part → device, got "{device_map}"')
    return dispatch_model(model, device_map, force_hooks=True)


def _balanced(model: Any, dtype: torch.dtype) -> dict[str, Any]:
    gpus = torch.cuda.device_count()
    if gpus < 2:
        raise ConfigError(f'device_map: at least two GPUs for "auto", got {gpus}; leave it out')
    whole: dict[str, Any] = {"dtype": dtype, "no_split_module_classes": model._no_split_modules}
    table: dict[str, Any] = infer_auto_device_map(model, get_balanced_memory(model, **whole), **whole)
    away = sorted({str(place) for place in table.values()} & {"cpu", "disk"})
    if away:
        raise ConfigError(
            f"device_map: {gpus} GPUs that hold the model, got parts left for {' and '.join(away)}; take more GPUs"
        )
    return table
