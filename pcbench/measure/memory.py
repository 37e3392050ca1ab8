"""Peak memory of a call: the allocator's peak on a GPU, the growth of the resident set on a CPU."""

from collections.abc import Callable
from pathlib import Path

import torch

from pcbench.errors import PcbenchError

__all__ = ["peak_bytes"]

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")


def peak_bytes(function: Callable[[], object], device: torch.device) -> int:
    """Bytes a call needs at its highest point.

    On a GPU: the allocator's peak, weights included. On a CPU: the highest resident set during the call
    minus the one before it, so weights and the interpreter are not in it; call it in a process of its
    own, after something small has touched the weights.

    Raises:
        PcbenchError: this system does not let a process reset its own peak (Linux does).
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    try:
        # 5: forget the peak so far (proc(5))
        CLEAR_REFS.write_text("5")
    except OSError as error:
        raise PcbenchError(f"peak memory: a Linux /proc/self/clear_refs, got {error}; run on Linux") from error
    before = _status_bytes("VmRSS")
    function()
    return max(0, _status_bytes("VmHWM") - before)


def _status_bytes(field: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise PcbenchError(f"peak memory: {field} in {STATUS}, got none; run on Linux")
