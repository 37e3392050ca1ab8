"""Causal attention of libraries that gives its log-sum-exp, one adapter each, and why one cannot run."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn import attention

from pcbench.errors import first_line

__all__ = ["PROVIDERS", "Attend", "Provider"]

# q [B, H, T, D], k and v [B, Hkv, T, D], scale -> out [B, H, T, D] and its log-sum-exp, [B, H, T] or [B, H, T, 1], with
# T rows or more
Attend = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]

SIXTEEN_BITS = (torch.bfloat16, torch.float16)
WIDEST = 256


@dataclass(frozen=True)
class Provider:
    """A library's attention.

    Args:
        attend: computes it.
        lacks: given a torch device type, what this machine lacks for it; None where nothing.
        on_cpu: dtypes that it takes there; none where it has no CPU code.
    """

    attend: Attend
    lacks: Callable[[str], str | None]
    on_cpu: tuple[torch.dtype, ...] = ()

    def why_not(self, device: str, dtype: torch.dtype | None = None, head_dim: int | None = None) -> str | None:
        """Why it cannot run, in one line; None where nothing is known against it.

        Args:
            device: a torch device type.
            dtype: of the inputs; None leaves it open.
            head_dim: D of the call; None leaves it open.
        """
        if device == "cpu" and not self.on_cpu:
            return "it needs a GPU"
        if reason := self.lacks(device):
            return reason
        taken = self.on_cpu if device == "cpu" else SIXTEEN_BITS
        if dtype is not None and dtype not in taken:
            return f"it needs {' or '.join(map(_name, taken))}, got {_name(dtype)}"
        if device != "cpu" and head_dim is not None and (head_dim % 8 or head_dim > WIDEST):
            return f"it needs a head_dim that is a multiple of 8 up to {WIDEST}, got {head_dim}"
        return None


def _flash(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    name = "_scaled_dot_product_flash_attention" + ("_for_cpu" if q.device.type == "cpu" else "")
    out, lse, *_ = getattr(torch.ops.aten, name)(q, k, v, 0.0, True, scale=scale)
    return out, lse


def _cudnn(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    out, lse, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, 0.0, True, scale=scale)
    return out, lse


def _switched(name: str) -> Attend:
    """torch's flash attention while another implementation stands in for it."""

    def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        with _activated(name):
            return _flash(q, k, v, scale)

    return attend


@contextmanager
def _activated(name: str) -> Iterator[None]:
    """torch's switch, which holds for the whole process, turned for one call and back."""
    before = attention.current_flash_attention_impl()
    attention.activate_flash_attention_impl(name)
    try:
        yield
    finally:
        attention.restore_flash_attention_impl()
        if before is not None:
            attention.activate_flash_attention_impl(before)


def _of_package(package: str, **asked: bool) -> Attend:
    """`flash_attn_func` of a package, which takes and gives [B, T, H, D]; `asked` is its word for the log-sum-exp."""

    def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        function = sys.modules[package].flash_attn_func
        rows = (x.transpose(1, 2) for x in (q, k, v))
        out, lse, *_ = function(*rows, softmax_scale=scale, causal=True, **asked)
        return out.transpose(1, 2), lse

    return attend


def _torch_flash(device: str) -> str | None:
    if device == "cpu" or torch.backends.cuda.is_flash_attention_available():
        return None
    return "this torch was built without flash attention"


def _torch_cudnn(device: str) -> str | None:
    if torch.version.hip:
        return "it needs an NVIDIA GPU"
    return None if torch.backends.cudnn.is_available() else "this torch finds no cuDNN"


def _switch(name: str, package: str, majors: tuple[int, ...]) -> Callable[[str], str | None]:
    """What torch's switch to an implementation lacks, which needs a package and GPUs of these generations."""

    def lacks(device: str) -> str | None:
        if torch.version.hip:
            return "it needs an NVIDIA GPU"
        # a torch may have the switch and not the way back
        known = hasattr(attention, "restore_flash_attention_impl") and attention.list_flash_attention_impls()
        if not known or name not in known:
            return f"this torch has no switch to {name}"
        if (major := torch.cuda.get_device_capability()[0]) not in majors:
            return f"it needs compute capability {' or '.join(f'{n}.x' for n in majors)}, got {major}.x"
        return _missing(package)

    return lacks


def _package(name: str, function: str = "flash_attn_func") -> Callable[[str], str | None]:
    return lambda device: _missing(name, function)


@cache
def _missing(package: str, function: str | None = None) -> str | None:
    """Why a package cannot be used; it is imported, once, to find out."""
    try:
        found: Any = import_module(package)
    # an extension that was built for another torch fails in ways of its own
    except Exception as error:
        return f"package {package} cannot be imported ({first_line(error)})"
    return None if function is None or hasattr(found, function) else f"package {package} has no {function}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# by the names of `pcbench.config.Attention`
PROVIDERS = {
    "flash": Provider(_flash, _torch_flash, (torch.float32, *SIXTEEN_BITS)),
    "cudnn": Provider(_cudnn, _torch_cudnn),
    "flash3": Provider(_switched("FA3"), _switch("FA3", "flash_attn_interface", (9,))),
    "flash4": Provider(_switched("FA4"), _switch("FA4", "flash_attn.cute.interface", (9, 10))),
    "flash_attn": Provider(_of_package("flash_attn", return_attn_probs=True), _package("flash_attn")),
    "aiter": Provider(_of_package("aiter", return_lse=True), _package("aiter")),
}
