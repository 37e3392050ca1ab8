"""Where the numbers of a model stop being finite."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

__all__ = ["first_not_finite"]


def first_not_finite(model: Any, layers: int, run: Callable[[], object]) -> str | None:
    """Which part of a model first has an output that holds NaN or infinity.

    Args:
        model: a `*ForCausalLM`.
        layers: how many it has.
        run: forwards of the model; each output is waited for, so nothing in it is worth timing.

    Returns:
        "the embeddings" or "layer N", 0-based; None where all of these are finite, as when the head alone is wrong.
    """
    found: list[str] = []

    def watch(name: str) -> Callable[[Any, Any, Any], None]:
        def look(module: Any, inputs: Any, output: Any) -> None:
            rows = output if isinstance(output, Tensor) else output[0]
            if not found and not bool(rows.isfinite().all()):
                found.append(name)

        return look

    parts = {"the embeddings": model.get_input_embeddings()}
    parts |= {f"layer {i}": layer for i, layer in enumerate(_layers(model.base_model, layers))}
    with ExitStack() as hooks:
        for name, module in parts.items():
            hooks.callback(module.register_forward_hook(watch(name)).remove)
        run()
    return found[0] if found else None


def _layers(body: nn.Module, layers: int) -> list[nn.Module]:
    """The list of as many modules that lies nearest to the top; none where a model keeps its layers otherwise."""
    lists = (module for module in body.modules() if isinstance(module, nn.ModuleList) and len(module) == layers)
    return list(next(lists, ()))
