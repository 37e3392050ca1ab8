"""Kernels of torch's SDPA: on a GPU full attention is measured by the fastest of them."""

import gc
import warnings
from collections.abc import Callable, Mapping

import torch
from torch.nn.attention import SDPBackend

from pcbench.errors import first_line

__all__ = ["KERNELS", "MOST_PASSES", "fastest", "is_tried", "trials"]

KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}

# passes of a kernel behind its first
PASSES = 2
# what a first pass may take for plans and loading; one that is slower by more than that than twice the fastest is all
FIRST_MS = 5000.0
# of all kernels together
MOST_PASSES = len(KERNELS) * (1 + PASSES)


def is_tried(device: torch.device) -> bool:
    """Whether the kernels are tried on a device; of a CPU torch knows which is fast."""
    return device.type == "cuda"


def trials(once: Callable[[SDPBackend], float], refused: Callable[[str, str], None]) -> dict[str, float]:
    """Kernel → milliseconds of its fastest pass; a kernel that does not run here, or does not fit, is not in it.

    Args:
        once: milliseconds of a pass by a kernel; raises RuntimeError where SDPA does not take the call.
        refused: told the kernel that is not in it, and why in one line.
    """
    found: dict[str, float] = {}
    for name, kernel in KERNELS.items():
        try:
            # torch says in warnings why a kernel does not take a call
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                first = once(kernel)
                hopeless = bool(found) and first > 2 * min(found.values()) + FIRST_MS
                found[name] = min([first, *(once(kernel) for _ in range(0 if hopeless else PASSES))])
        except RuntimeError as error:
            refused(name, first_line(error))
            gc.collect()
            torch.cuda.empty_cache()
    return found


def fastest(trials_ms: Mapping[str, float]) -> str | None:
    """The kernel with the least time; None where none ran."""
    return min(trials_ms, key=lambda name: trials_ms[name], default=None)
