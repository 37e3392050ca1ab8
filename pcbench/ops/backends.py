"""Which backend a device has, and the ops of a backend as an object."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from pcbench import reference
from pcbench.errors import BackendUnavailable
from pcbench.ops.fakes import refuse_gradients
from pcbench.ops.libraries import COMPILED, FIXED_HEAD_DIM, HEAD_DIMS, why_not
from pcbench.ops.triton_refusal import interpreted
from pcbench.types import DeviceKind

__all__ = ["BackendOps", "automatic_backend", "compiled_backend", "launch", "make_backend", "require"]

_COMPILED_BY_KIND = {"cpu": "cpu", "cuda": "cuda", "rocm": "hip"}


def compiled_backend(device_kind: DeviceKind) -> str:
    """The compiled backend of a kind of device: cpu → cpu, cuda → cuda, rocm → hip."""
    return _COMPILED_BY_KIND[device_kind]


def automatic_backend(device_kind: DeviceKind, head_dim: int | None = None) -> str:
    """What `auto` stands for: the compiled backend, or triton on a GPU that has only that for a model.

    Where neither can run it is the compiled one, whose `why_not` then says why.

    Args:
        device_kind: cpu, cuda or rocm.
        head_dim: D of the model; None leaves it open.
    """
    compiled = compiled_backend(device_kind)
    if device_kind == "cpu" or why_not(compiled, head_dim=head_dim) is None:
        return compiled
    return compiled if why_not("triton", head_dim=head_dim) else "triton"


class BackendOps:
    """The ops of one backend by name; `backend` says which. Implements `pcbench.types.Ops`."""

    def __init__(self, backend: str, module: ModuleType) -> None:
        self.backend = backend
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name not in reference.__all__:
            raise AttributeError(f"{name} is no op; there are {', '.join(reference.__all__)}")
        op = getattr(self._module, name, None)
        if op is None:
            reason = why_not(self.backend, name) or "no kernel"
            raise BackendUnavailable(
                f"{name}: {reason}; pcbench.reference.{name} runs anywhere", {self.backend: reason}
            )
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
    if name == "triton":
        # which imports Triton
        compiled = import_module("pcbench.ops.triton")
    return BackendOps(name, reference if name == "reference" else compiled)


def launch(
    op: str, check: Callable[[], object], floats: tuple[Tensor, *tuple[Tensor | None, ...]], *args: Any, **kwargs: Any
) -> Any:
    """Calls a compiled op.

    The kernels refuse whatever `check` and `require` refuse before they write anything, so a call that they have run
    before for this device and dtype asks them at once; the words of an error are looked for where there is one.

    Args:
        op: one of `pcbench.ops.__all__`.
        check: raises in the reference's words where an argument is wrong.
        floats: float inputs; the device and dtype of the first decide.
        args, kwargs: of the op.

    Raises:
        ShapeError: from `check`.
        BackendUnavailable, RuntimeError: from `require`.
    """
    lead = floats[0]
    # a trace has no kernels that check, gradients are refused above them
    plain = not torch.compiler.is_compiling() and type(lead) is Tensor and not torch.is_grad_enabled()
    known = plain and _kernels.get((lead.device, op, lead.dtype))
    if not known:
        check()
        require(op, *floats)
        if plain:
            _kernels[lead.device, op, lead.dtype] = getattr(torch.ops.pcbench, op).default
        return getattr(torch.ops.pcbench, op)(*args, **kwargs)
    try:
        if torch.is_inference_mode_enabled():
            return known(*args, **kwargs)
        with torch._C._AutoDispatchBelowAutograd():
            return known(*args, **kwargs)
    except Exception:
        check()
        require(op, *floats)
        raise


# what has run: device, op, dtype → the op
_kernels: dict[tuple[torch.device, str, torch.dtype], Any] = {}


def require(op: str, lead: Tensor, *inputs: Tensor | None) -> None:
    """Raises unless the compiled backend of `lead`'s device runs `op` on these inputs.

    Args:
        op: one of `pcbench.ops.__all__`.
        lead: the tensor whose device and dtype decide; where the op has an instantiation for each head dim, it is last.
        inputs: the other float inputs.

    Raises:
        BackendUnavailable: no backend, no instantiation for the dtype or the head dim.
        RuntimeError: an input requires grad.
    """
    refuse_gradients(op, lead, *inputs)
    wide = any(x is not None and x.dtype == torch.float64 for x in inputs)
    dtype = torch.float64 if wide else lead.dtype
    reason = _refusal(lead.device.type, op, dtype)
    if reason is None and op in FIXED_HEAD_DIM and lead.shape[-1] not in HEAD_DIMS:
        reason = why_not(_backend_of(lead.device.type), op, head_dim=int(lead.shape[-1]))
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


def _is_of(backend: str, device: str) -> bool:
    if backend == "triton":
        return device == ("cpu" if interpreted() else "cuda")
    return _backend_of(device) == backend


def _on_own_device(backend: str, name: str, op: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        lead = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), None)
        if lead is not None and not _is_of(backend, device := lead.device.type):
            raise BackendUnavailable(f"{name}: the {backend} backend takes {backend} tensors, got a {device} tensor")
        return op(*args, **kwargs)

    call.__name__, call.__doc__ = name, op.__doc__
    return call
