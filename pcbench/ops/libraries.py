"""Loads the compiled libraries and says why a backend cannot run.

Nothing is loaded on import. A library is loaded once; a failed load is remembered with its reason.
"""

import ctypes
from functools import cache
from importlib import import_module
from pathlib import Path

import torch

from pcbench import reference
from pcbench.errors import unknown_name
from pcbench.ops.fakes import register
from pcbench.ops.gpus import TorchGpu
from pcbench.ops.triton_refusal import triton_refusal

__all__ = ["COMPILED", "DTYPES", "FIXED_HEAD_DIM", "HEAD_DIMS", "load", "why_not"]

COMPILED = ("cpu", "cuda", "hip")
HEAD_DIMS = (64, 96, 128)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# ops with an instantiation per head dim; the others take any
FIXED_HEAD_DIM = (
    "cached_attention",
    "calibrated_attention",
    "decode_attention",
    "dual_chunk_attention",
    "key_mass",
    "quantized_attention",
    "window_mass",
)


def why_not(
    backend: str, op: str | None = None, *, head_dim: int | None = None, dtype: torch.dtype | None = None
) -> str | None:
    """Why a backend cannot run, in one line; None where it can.

    Args:
        backend: reference, cpu, cuda, hip or triton.
        op: one of `pcbench.ops.__all__`; None asks for the backend as a whole.
        head_dim: D of the call; None leaves it open.
        dtype: of the call's inputs; None leaves it open.

    Raises:
        ConfigError: `backend` or `op` is unknown.
    """
    if op is not None and op not in reference.__all__:
        raise unknown_name("ops", "op", op, reference.__all__)
    if backend == "reference":
        return None
    if backend == "triton":
        return triton_refusal(op, head_dim) or _no_kernel(backend, op, dtype)
    if backend not in COMPILED:
        raise unknown_name("ops", "backend", backend, ("reference", *COMPILED, "triton"))
    library = load(backend)
    if isinstance(library, str):
        return library
    return _cannot_run(backend, library) or _not_covered(backend, op, head_dim, dtype)


@cache
def load(backend: str) -> ctypes.CDLL | str:
    """The loaded library of a compiled backend, or why there is none."""
    try:
        info = import_module("pcbench._build_info")
    except ImportError as error:
        return f"the extension is not built ({error}); run `pip install .`"
    if backend not in info.backends:
        reason = info.why_not.get(backend, f"built for {', '.join(info.backends)}")
        return f"this build has no {backend} kernels ({reason})"
    # the CPU's library owns the schema
    if backend != "cpu" and isinstance(schema := load("cpu"), str):
        return schema
    path = Path(str(info.__file__)).parent / f"libpcbench_{backend}.so"
    try:
        # the ops register themselves while the library loads
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return f"library {path}: {error}"
    register()
    return library


def _cannot_run(backend: str, library: ctypes.CDLL) -> str | None:
    if backend != "cpu":
        return TorchGpu.here().why_not(backend, import_module("pcbench._build_info").arch_lists[backend])
    library.pcbench_cpu_isa_error.restype = ctypes.c_char_p
    error: bytes | None = library.pcbench_cpu_isa_error()
    return None if error is None else error.decode()


def _not_covered(backend: str, op: str | None, head_dim: int | None, dtype: torch.dtype | None) -> str | None:
    if head_dim is not None and head_dim not in HEAD_DIMS and (op is None or op in FIXED_HEAD_DIM):
        return f"{_asked(backend, op)} needs head_dim 64, 96 or 128, got {head_dim}"
    return _no_kernel(backend, op, dtype)


def _no_kernel(backend: str, op: str | None, dtype: torch.dtype | None) -> str | None:
    if dtype is not None and dtype not in DTYPES:
        return f"{_asked(backend, op)} needs float32, bfloat16 or float16, got {str(dtype).removeprefix('torch.')}"
    return None


def _asked(backend: str, op: str | None) -> str:
    return f"{op} on {backend}" if op else f"{backend} attention"
