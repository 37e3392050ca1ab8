"""Steps of an answer: launched kernel by kernel, or replayed from graphs that hold what they launch."""

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from pcbench.errors import PcbenchError, first_line
from pcbench.measure.memory import is_out_of_memory
from pcbench.types import Method, Prefilled, Stages, no_stages

__all__ = [
    "Alike",
    "Launched",
    "Logged",
    "NotCaptured",
    "Replayed",
    "StepLog",
    "Steps",
    "are_replayed",
    "capture",
]

T = TypeVar("T")

# once: a graph of one step is a graph of all; each: every step has a graph of its own
Alike = Literal["once", "each"]

# steps of an answer with a graph each; later ones are launched and not timed, so that none of these graphs holds a
# cache that is enlarged, whose old rows the second replay would no longer find
MOST_EACH = 128
# ops whose result, or its shape, the host must know before it goes on
WAITS = frozenset({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape})
# ops that take a mask for an index, whose trues the host counts
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
COPIES = ("aten::copy_", "aten::_to_copy")


class NotCaptured(PcbenchError):
    """A step cannot be a graph; the message says why."""


class Steps(Protocol):
    """The steps of one answer, one after another."""

    def prepare(self, token: Tensor) -> bool:
        """What comes before the clock starts, for a step of token [1] int64; whether the step's time counts."""
        ...

    def __call__(self, token: Tensor) -> Tensor:
        """The step: logits [1, V], which the next one may overwrite."""
        ...


class Launched:
    """Steps as a method makes them."""

    def __init__(self, method: Method, prefilled: Prefilled) -> None:
        self.method, self.prefilled = method, prefilled

    def prepare(self, token: Tensor) -> bool:
        return True

    def __call__(self, token: Tensor) -> Tensor:
        return self.method.step(self.prefilled, token)


class Logged(Launched):
    """Launched steps of which the second and the third are looked at; the first makes what later ones find."""

    def __init__(self, method: Method, prefilled: Prefilled) -> None:
        super().__init__(method, prefilled)
        self.count, self.logs = 0, list[StepLog]()

    def __call__(self, token: Tensor) -> Tensor:
        self.count += 1
        if self.count not in (2, 3):
            return super().__call__(token)
        with StepLog(token.device) as log:
            logits = super().__call__(token)
        self.logs.append(log)
        return logits

    def alike(self, *, stock: bool) -> Alike:
        """How such steps can be replayed.

        Args:
            stock: each may have a graph of its own, where they are not alike.

        Raises:
            NotCaptured: there are not three, the host waits in one, or they must be alike and differ.
        """
        if len(self.logs) < 2:
            raise NotCaptured(f"an answer of {self.count + 1} tokens leaves no step to time")
        for log in self.logs:
            if log.waits:
                raise NotCaptured(f"the host waits in {log.waits[0]}")
        one, other = (log.ops for log in self.logs)
        if one == other:
            return "once"
        if stock:
            return "each"
        first = next((a[0] for a, b in zip(one, other, strict=False) if a != b), "how many ops they have")
        raise NotCaptured(f"a step differs from the one before it, first in {first}")


class Replayed:
    """Steps from graphs: what a token costs the device, without the time that Python takes to launch its kernels.

    The first step is launched: it makes what later ones find. A graph is sent to the device with its first replay,
    whose time does not count. Where steps are alike that is the second step, captured once for all. Where their shapes
    grow, each is captured anew and replayed twice, which must be the same as once: true of stock code, which writes a
    row where the row before ended.

    Args:
        method, prefilled: after its prefill.
        alike: as of `Logged`.
        stages: times the captures apart.
    """

    def __init__(self, method: Method, prefilled: Prefilled, alike: Alike, stages: Stages = no_stages) -> None:
        self.launched, self.alike, self.stages = Launched(method, prefilled), alike, stages
        self.count = 0
        self.graph: Any = None
        self.first: Any = None
        self.token = torch.zeros_like(prefilled.logits[:, 0], dtype=torch.int64)
        self.logits = prefilled.logits

    def prepare(self, token: Tensor) -> bool:
        self.count += 1
        if self.count == 1 or (self.alike == "each" and self.count > MOST_EACH):
            self.graph = None
            return False
        if self.alike == "once" and self.graph is not None:
            return True
        with self.stages("capture"):
            self.logits, self.graph = capture(lambda: self.launched(self.token), token.device, self.first)
        # its memory is that of the later ones too
        self.first = self.first or self.graph
        if self.alike == "each":
            self.token.copy_(token)
            self.graph.replay()
            # or the clock of the second replay would hold the first
            wait(token.device)
        return self.alike == "each"

    def __call__(self, token: Tensor) -> Tensor:
        if self.graph is None:
            return self.launched(token)
        self.token.copy_(token)
        self.graph.replay()
        return self.logits


def are_replayed(device: torch.device) -> bool:
    """Whether steps are replayed on a device, where they can be."""
    return device.type == "cuda"


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def capture(call: Callable[[], T], device: torch.device, beside: Any = None) -> tuple[T, Any]:
    """What a call returns, whose numbers are there after a replay, and its graph; the call itself computes nothing.

    Memory that torch's allocator holds stays: a later prefill finds it as it was.

    Args:
        call: what is captured.
        device: a GPU.
        beside: a graph whose memory it shares.

    Raises:
        NotCaptured: the device refuses it.
    """
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize(device)
    try:
        with torch.cuda.stream(_side(device)):
            # other threads may ask the driver for clocks and power meanwhile
            graph.capture_begin(beside and beside.pool(), capture_error_mode="thread_local")
            try:
                found = call()
            except BaseException:
                # it fails too after an op that is refused, and tells less
                with suppress(RuntimeError):
                    graph.capture_end()
                raise
            graph.capture_end()
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise NotCaptured(first_line(error)) from error
    return found, graph


@cache
def _side(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


class StepLog(TorchDispatchMode):
    """What is asked of torch inside: ops with their shapes and numbers, and which of them make the host wait.

    Args:
        device: of the step.
        ops: in their order.
        waits: of ops whose results the host reads, whose shapes it must know, or that copy between devices: their name,
            and the line that asked.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.ops: list[tuple[str, Any]] = []
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.name()
        self.ops.append((name, tree_map(_described, (args, kwargs))))
        if self._waits(func, name.partition(".")[0], args, kwargs):
            self.waits.append(f"{name} at {_asking_line()}")
        return func(*args, **kwargs)

    def _waits(self, func: Any, op: str, args: Any, kwargs: Any) -> bool:
        if op in INDEXING:
            return any(x.dtype in (torch.bool, torch.uint8) for x in args[1] if x is not None)
        if WAITS.intersection(func.tags):
            return True
        if op == "aten::lift_fresh":
            # numbers of a list
            return bool(args[0].device == self.device)
        if op in COPIES:
            kinds = {x.device.type for x in args if isinstance(x, Tensor)}
            return len(kinds | ({torch.device(kwargs["device"]).type} if kwargs.get("device") else set())) > 1
        return False


def _described(x: Any) -> Any:
    return (tuple(x.shape), x.dtype) if isinstance(x, Tensor) else x


def _asking_line() -> str:
    """The innermost line that is none of torch's and none of this file's."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and (frame.f_code.co_filename == __file__ or "torch/" in frame.f_code.co_filename):
        frame = frame.f_back
    return f"{'/'.join(frame.f_code.co_filename.rsplit('/', 2)[-2:])}:{frame.f_lineno}"
