"""Why Triton's kernels cannot run here; nothing of Triton is imported for it."""

import os
import re
from importlib.util import find_spec

from pcbench.ops.gpus import TorchGpu

__all__ = ["KERNELS", "MISSING", "interpreted", "triton_refusal"]

# ops with a kernel
KERNELS = (
    "cached_attention",
    "calibrated_attention",
    "decode_attention",
    "key_mass",
    "merge_states",
    "quantized_attention",
    "window_mass",
)
# ops that in plain PyTorch take quadratic memory, as the rest do not
MISSING = ("dual_chunk_attention",)
LARGEST_HEAD_DIM = 256


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on the CPU: for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def triton_refusal(op: str | None, head_dim: int | None, gpu: TorchGpu | None = None) -> str | None:
    """Why the backend cannot run an op; None where it can.

    Args:
        op: None asks for the backend as a whole.
        head_dim: D of the call; None leaves it open.
        gpu: None is the one of this process.
    """
    if op in MISSING:
        return f"{op} has no kernel in Triton"
    if head_dim is not None and head_dim > LARGEST_HEAD_DIM:
        return f"{op or 'attention'} in Triton needs head_dim up to {LARGEST_HEAD_DIM}, got {head_dim}"
    if find_spec("triton") is None:
        return "Triton is not installed; builds of torch for CUDA and ROCm bring it"
    if interpreted():
        return None
    gpu = gpu or TorchGpu.here()
    if gpu.name is None:
        return "Triton's kernels need a GPU, and torch finds none"
    if not re.fullmatch(r"sm_([89]\d|1\d\d)|gfx(9|11|12)\w+", gpu.arch):
        return f"Triton's kernels need sm_80 or later, gfx9, gfx11 or gfx12, got {gpu.name}, which is {gpu.arch}"
    return None
