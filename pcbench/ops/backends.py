"""Which backend a device has, and the ops of a backend as an object."""

from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from pcbench import reference
from pcbench.errors import BackendUnavailable
from pcbench.ops.fakes import refuse_gradients
from pcbench.ops.libraries import COMPILED, HEAD_DIMS, why_not
from pcbench.types import DeviceKind

__all__ = ["BackendOps", "compiled_backend", "make_backend", "require"]

_COMPILED_BY_KIND = {"cpu": "cpu", "cuda": "cuda", "rocm": "hip"}


def compiled_backend(device_kind: DeviceKind) -> str:
    """The compiled backend of a kind of device: cpu → cpu, cuda → cuda, rocm → hip."""
    return _COMPILED_BY_KIND[device_kind]


class BackendOps:
    """The ops of one backend by name; `backend` says which. Implements `pcbench.types.Ops`."""

    def __init__(self, backend: str, module: ModuleType) -> None:
        self.backend = backend
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name not in reference.__all__:
            raise AttributeError(f"{name} is no op; there are {', '.join(reference.__all__)}")
        op = getattr(self._module, name)
        if self.backend != "reference":
            op = _on_own_device(self.backend, name, op)
        setattr(self, name, op)
        return op

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.backend!r})"


@cache
def make_backend(name: str, compiled: ModuleType) -> BackendOps:
    """The ops of `name`; `compiled` holds those that choose by device."""
    reason = why_not(name)
    if reason:
        raise BackendUnavailable(f"ops: backend {name} must be able to run here, got: {reason}", {name: reason})
    return BackendOps(name, reference if name == "reference" else compiled)


def require(op: str, lead: Tensor, *inputs: Tensor | None, head_dim: int | None = None) -> None:
    """Raises unless the compiled backend of `lead`'s device runs `op` on these inputs.

    Args:
        op: one of `pcbench.ops.__all__`.
        lead: the tensor whose device and dtype decide.
        inputs: the other float inputs.
        head_dim: D, where the op has an instantiation for each.

    Raises:
        BackendUnavailable: no backend, no instantiation for the dtype or the head dim.
        RuntimeError: an input requires grad.
    """
    refuse_gradients(op, lead, *inputs)
    wide = any(x is not None and x.dtype == torch.float64 for x in inputs)
    dtype = torch.float64 if wide else lead.dtype
    reason = _refusal(lead.device.type, op, dtype)
    if reason is None and head_dim is not None and head_dim not in HEAD_DIMS:
        reason = why_not(_backend_of(lead.device.type), op, head_dim=int(head_dim))
    if reason:
        raise BackendUnavailable(f"{op}: {reason}; pcbench.reference.{op} runs anywhere", {lead.device.type: reason})


def _refusal(device: str, op: str, dtype: torch.dtype) -> str | None:
    key = (device, op, dtype)
    if key not in _reasons:
        backend = _backend_of(device)
        if backend not in COMPILED:
            return f"there are kernels for cpu, cuda and hip tensors, got a {device} tensor"
        _reasons[key] = why_not(backend, op, dtype=dtype)
    return _reasons[key]


# for torch.compile, which must not trace the loading of a library; torch.compiler.assume_constant_result, which does
# the same, imports all of torch.compile
_refusal._dynamo_marked_constant = True  # type: ignore[attr-defined]
_reasons: dict[tuple[str, str, torch.dtype], str | None] = {}


def _backend_of(device: str) -> str:
    return "hip" if device == "cuda" and torch.version.hip else device


def _on_own_device(backend: str, name: str, op: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        device = args[0].device.type if args else ""
        if args and _backend_of(device) != backend:
            raise BackendUnavailable(f"{name}: the {backend} backend takes {backend} tensors, got a {device} tensor")
        return op(*args, **kwargs)

    call.__name__, call.__doc__ = name, op.__doc__
    return call
