"""The model's code around attention by torch.compile: norms and MLPs, for every method alike."""

import copy
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from types import MethodType
from typing import Any

import torch
from torch import Tensor

from pcbench.errors import ConfigError, ParityError, first_line
from pcbench.measure.memory import is_out_of_memory
from pcbench.measure.parity import compare_out
from pcbench.models.layers import decoder_layers
from pcbench.models.runner import HFRunner

__all__ = ["compile_pieces", "compiled_graphs", "late_graphs"]

BACKEND = "inductor"
# batch rows and tokens: of a prompt, a step and a micro-batch; torch.compile makes code of its own where one is 1
SHAPES = ((1, 24), (1, 1), (2, 24))


@torch.inference_mode()
def compile_pieces(runner: HFRunner) -> float:
    """Norms and MLPs of the layers, and the last norm, run compiled from now on; milliseconds of compiling.

    Classes are compiled, not modules: a graph serves every layer and any number of tokens, and a process compiles
    once. What lies between (attention, projections, rotations) is left to the model's own code and the method's ops.

    Args:
        runner: of the model that is changed.

    Raises:
        ConfigError: torch.compile does not work here, or the model has neither.
        ParityError: compiled code is further from the truth in float64 than twice the model's own, and than the
            tolerance of `out`.
    """
    pieces = list(_pieces(runner))
    if not pieces:
        raise ConfigError(
            f"suite.compile: a model with norms or MLPs in its layers, got {runner.spec.name}; leave suite.compile out"
        )
    spent = 0.0
    for piece in {type(piece): piece for piece in pieces}.values():
        own = copy.deepcopy(piece)
        piece.forward = MethodType(_compiled(type(piece)), piece)
        for shape in SHAPES:
            x = _hidden(runner, shape)
            start = time.perf_counter()
            found = _called(piece, x)
            spent += (time.perf_counter() - start) * 1e3
            _check(piece, own, x, found)
    for piece in pieces:
        piece.forward = MethodType(_compiled(type(piece)), piece)
    return spent


def compiled_graphs() -> int:
    """Graphs that this process has compiled."""
    found = sys.modules.get("torch._dynamo.utils")
    return int(found.counters["stats"]["unique_graphs"]) if found else 0


def late_graphs(before: int) -> str | None:
    """A warning where graphs were compiled in a pass that began with `before` of them."""
    count = compiled_graphs() - before
    return f"a timed pass compiled {count} graphs: its time holds that" if count else None


def _pieces(runner: HFRunner) -> Iterator[Any]:
    """Parts of each layer, and those beside the layers, that are a norm or made of linear parts alone."""
    layers = decoder_layers(runner.model, runner.spec)
    for parent in (*layers, runner.model.base_model):
        for part in parent.children():
            owners = [module for module in part.modules() if module._parameters]
            is_norm = len(owners) == 1 and owners[0] is part and type(part).__name__.endswith("Norm")
            is_dense = len(owners) > 1 and all(isinstance(module, torch.nn.Linear) for module in owners)
            inside = {type(module) for module in part.modules()}
            has_layers = torch.nn.ModuleList in inside or any(hasattr(x, "layer_idx") for x in part.modules())
            if is_norm or (is_dense and not has_layers):
                yield part


@cache
def _compiled(kind: type[torch.nn.Module]) -> Callable[..., Any]:
    return torch.compile(kind.forward, dynamic=True, backend=BACKEND)


def _hidden(runner: HFRunner, shape: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, runner.spec.hidden, generator=generator)
    return x.to(runner.device, runner.dtype)


def _called(piece: Any, x: Tensor) -> Tensor:
    try:
        found: Tensor = piece(x)
        if x.device.type == "cuda":
            torch.cuda.synchronize(x.device)
    # compilers, their caches and tools of the system raise whatever they like
    except Exception as error:
        if is_out_of_memory(error):
            raise
        said = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(
            f"suite.compile: torch.compile that works here, got {said}; install g++ on a CPU or triton on a GPU, "
            "or leave suite.compile out"
        ) from error
    return found


def _check(piece: Any, own: Any, x: Tensor, found: Tensor) -> None:
    """Holds compiled code against the model's own."""
    held = compare_out(found, copy.deepcopy(own).double()(x.double()), own(x), x.dtype)
    if not held.ok:
        raise ParityError(
            f"suite.compile: {type(piece).__name__} as the model's own code computes it, got an error of "
            f"{held.err:.1e} with a bound of {held.bound:.1e}; leave suite.compile out"
        )
