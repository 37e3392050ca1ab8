"""The model's code around attention by torch.compile: norms, MLPs and rotations, for every method alike."""

import copy
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from types import MethodType
from typing import Any

import torch
from torch import Tensor

from pcbench.errors import ConfigError, ParityError, first_line
from pcbench.measure.memory import is_out_of_memory
from pcbench.measure.parity import compare_out
from pcbench.models.layers import decoder_layers
from pcbench.models.rotary import Swapped
from pcbench.models.runner import HFRunner

__all__ = ["Compiled", "compile_pieces", "compiled_graphs", "late_graphs"]

BACKEND = "inductor"
# batch rows and tokens: of a prompt, a step and a micro-batch; torch.compile makes code of its own where one is 1, and
# takes sizes that are equal for one size, so these are no model's number of heads
SHAPES = ((1, 13), (1, 1), (11, 13))
# by which the code of a family in transformers turns queries and keys
ROTATION = "apply_rotary_pos_emb"
UNTURNED = f"suite.compile: rotations are the model's own code, in which no layer calls a function {ROTATION}"


@dataclass(frozen=True)
class Compiled:
    """A model with compiled code.

    Args:
        runner: whose forwards run by it.
        ms: milliseconds of compiling.
        warning: what is not compiled, where something is not.
    """

    runner: HFRunner
    ms: float
    warning: str | None


@torch.inference_mode()
def compile_pieces(runner: HFRunner) -> Compiled:
    """Norms and MLPs of the layers, the last norm and rotations of queries and keys, compiled.

    Classes and functions are compiled, not modules: a graph serves every layer and any number of tokens, and a process
    compiles once. Norms and MLPs of the model are changed for good. The function that rotates belongs to all models of
    its family, so the compiled one stands in its place only inside forwards of the runner that is returned. What lies
    between (attention, projections) is left to the model's own code and the method's ops.

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
        piece.forward = MethodType(_compiled(type(piece).forward), piece)
        for shape in SHAPES:
            x = _hidden(runner, shape)
            found, ms = _called(piece, x)
            spent += ms
            _check(type(piece).__name__, found, copy.deepcopy(own).double()(x.double()), own(x))
    for piece in pieces:
        piece.forward = MethodType(_compiled(type(piece).forward), piece)
    rotations = list(_rotations(runner))
    of_rotations = [ms for shape in SHAPES for ms in _held(runner, rotations, shape)]
    turning = replace(runner, rope=(*runner.rope, *rotations))
    return Compiled(turning, spent + sum(of_rotations), None if of_rotations else UNTURNED)


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


def _rotations(runner: HFRunner) -> Iterator[Swapped]:
    """The function of each file that the layers' attention is written in, and a compiled one."""
    parts = [part for layer in decoder_layers(runner.model, runner.spec) for part in layer.modules()]
    for name in sorted({type(part).__module__ for part in parts if hasattr(part, "layer_idx")}):
        own = getattr(sys.modules[name], ROTATION, None)
        if own is not None:
            yield Swapped(sys.modules[name], ROTATION, own, _compiled(own))


def _held(runner: HFRunner, rotations: list[Swapped], shape: tuple[int, int]) -> list[float]:
    """A forward whose every rotation is held against the model's own: milliseconds of each compiled one."""
    spent = []

    def held(rotation: Swapped) -> Callable[..., Any]:
        def rotate(*args: Any, **kwargs: Any) -> Any:
            truth = rotation.own(*map(_wide, args), **{name: _wide(x) for name, x in kwargs.items()})
            own = rotation.own(*args, **kwargs)
            found, ms = _called(rotation.other, *args, **kwargs)
            spent.append(ms)
            for of_found, of_truth, of_own in zip(*map(_tensors, (found, truth, own)), strict=True):
                _check(ROTATION, of_found, of_truth, of_own)
            return own

        return rotate

    def plan(layer: int, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> Tensor:
        return v.repeat_interleave(q.shape[1] // v.shape[1], 1)

    (rows, tokens), device = shape, runner.device
    ids = torch.arange(rows * tokens, device=device).remainder(runner.spec.vocab).view(shape)
    positions = torch.arange(tokens, device=device).repeat(rows, 1)
    lengths = torch.full((rows,), tokens, dtype=torch.int32, device=device)
    store = runner.new_store(rows, tokens)
    store.begin(torch.arange(rows, dtype=torch.int32, device=device))
    watching = replace(runner, rope=(*runner.rope, *(replace(x, other=held(x)) for x in rotations)))
    watching.forward(ids, positions, lengths, store, plan)
    return spent


def _wide(x: Any) -> Any:
    return x.double() if isinstance(x, Tensor) and x.is_floating_point() else x


def _tensors(found: Any) -> tuple[Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


@cache
def _compiled(code: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(code, dynamic=True, backend=BACKEND)


def _hidden(runner: HFRunner, shape: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, runner.spec.hidden, generator=generator)
    return x.to(runner.device, runner.dtype)


def _called(code: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, float]:
    """What compiled code gives, and in how many milliseconds."""
    start = time.perf_counter()
    try:
        found = code(*args, **kwargs)
        if args[0].device.type == "cuda":
            torch.cuda.synchronize(args[0].device)
    # compilers, their caches and tools of the system raise whatever they like
    except Exception as error:
        if is_out_of_memory(error):
            raise
        said = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(
            f"suite.compile: torch.compile that works here, got {said}; install g++ on a CPU or triton on a GPU, "
            "or leave suite.compile out"
        ) from error
    return found, (time.perf_counter() - start) * 1e3


def _check(name: str, found: Tensor, truth: Tensor, own: Tensor) -> None:
    """Holds compiled code against the model's own."""
    held = compare_out(found, truth, own, own.dtype)
    if not held.ok:
        raise ParityError(
            f"suite.compile: {name} as the model's own code computes it, got an error of {held.err:.1e} with a bound "
            f"of {held.bound:.1e}; leave suite.compile out"
        )
