"""Forwards of a 16-bit model in float32, with little more room than its weights take."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn import ModuleList

__all__ = ["in_float32"]

NARROW = (torch.bfloat16, torch.float16)


# float32 weights that are made at once; larger models are widened a layer at a time, again in every forward
AT_ONCE_BYTES = 2 << 30


@contextmanager
def in_float32(model: Any) -> Iterator[None]:
    """Every part of `model` that runs inside is float32 while it runs; its 16-bit weights are the same afterwards."""
    whole = _Part(model, whole=True)
    if 4 * sum(x.numel() for x in whole.tensors()) <= AT_ONCE_BYTES:
        whole.widen()
        try:
            yield
        finally:
            whole.narrow()
        return
    with ExitStack() as hooks:
        for part in _parts(model):
            hooks.callback(part.module.register_forward_pre_hook(part.widen).remove)
            hooks.callback(part.module.register_forward_hook(part.narrow).remove)
            # of a forward that did not come to its end
            hooks.callback(part.narrow)
        yield


class _Part:
    """A module that is widened as a whole while it runs, or of a container only what is its own."""

    def __init__(self, module: Any, *, whole: bool) -> None:
        self.module, self.whole = module, whole
        self.kept: list[tuple[Tensor, Tensor]] = []

    def tensors(self) -> Iterator[Tensor]:
        own = {"recurse": self.whole}
        return chain(self.module.parameters(**own), self.module.buffers(**own))

    # without this mode, weights that were made in it cannot be put back
    @torch.inference_mode()
    def widen(self, *_: Any) -> None:
        for x in self.tensors():
            # tensors of another kind, as quantised ones, only seem to be narrow
            if x.dtype in NARROW and type(x.data) is Tensor:
                self.kept.append((x, x.data))
                x.data = x.data.float()

    @torch.inference_mode()
    def narrow(self, *_: Any) -> None:
        while self.kept:
            x, data = self.kept.pop()
            x.data = data


def _parts(module: Any) -> Iterator[_Part]:
    """Layers of a list are parts, and what stands beside them; what holds a list is a container."""
    holds_list = any(isinstance(x, ModuleList) for x in module.modules())
    yield _Part(module, whole=not holds_list)
    if holds_list:
        for child in module.children():
            if isinstance(module, ModuleList) and not isinstance(child, ModuleList):
                yield _Part(child, whole=True)
            else:
                yield from _parts(child)
