"""Peak memory of a call and of its phases: the allocator's on a GPU, the growth of the resident set on a CPU."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pcbench.errors import PcbenchError
from pcbench.ops.no_memory import is_out_of_memory

__all__ = ["Phases", "is_out_of_memory", "peak_bytes", "return_freed_memory"]

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
# of glibc's malloc.h
M_MMAP_THRESHOLD = -3
# what glibc begins with
MAPPED_BYTES = 128 * 1024


class Phases:
    """The highest point of memory in every named phase, and over all of them; usable as the `Stages` of a prefill.

    On a GPU: the allocator's peak, weights included. On a CPU: the highest resident set minus the one at the start,
    so weights and the interpreter are not in it; use it in a process of its own, after something small has touched
    the weights and `return_freed_memory` has been called. A phase around others is as high as they are.

    Args:
        device: whose memory.

    Raises:
        PcbenchError: this system does not let a process reset its own peak (Linux does).
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes: dict[str, int] = {}
        self.peak = 0
        # what a GPU's allocator has taken from the driver at most
        self.reserved: int | None = None
        self.open: list[str] = []
        self._reset()
        self.before = 0 if device.type == "cuda" else _status_bytes("VmRSS")

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._look()
        self.open.append(name)
        try:
            yield
        finally:
            self._look()
            self.open.pop()

    def _look(self) -> None:
        """Counts the highest point since the last look for the phases that are open."""
        gpu = self.device.type == "cuda"
        high = torch.cuda.max_memory_allocated(self.device) if gpu else _status_bytes("VmHWM")
        if gpu:
            self.reserved = max(self.reserved or 0, torch.cuda.max_memory_reserved(self.device))
        grown = max(0, high - self.before)
        self.peak = max(self.peak, grown)
        for name in self.open:
            self.bytes[name] = max(self.bytes.get(name, 0), grown)
        self._reset()

    def _reset(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        try:
            # 5: forget the peak so far (proc(5))
            CLEAR_REFS.write_text("5")
        except OSError as error:
            raise PcbenchError(f"peak memory: a Linux /proc/self/clear_refs, got {error}; run on Linux") from error


def return_freed_memory() -> None:
    """Gives what is free back to the system, and from now on every large block as soon as it is freed.

    By itself glibc keeps freed blocks of up to 32 MiB, more of them the larger ones a program has freed before, so
    that the resident set says little about what is in use. Slower: not for a process that is timed.

    Raises:
        PcbenchError: this system's C library is not glibc.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        raise PcbenchError("peak memory: the C library glibc, got another one; run on Linux with glibc")
    # blocks from this size on are mapped by themselves; set once, it does not grow
    libc.mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
    libc.malloc_trim(0)


def peak_bytes(function: Callable[[], object], device: torch.device) -> int:
    """Bytes a call needs at its highest point, as `Phases` counts them."""
    phases = Phases(device)
    with phases("call"):
        function()
    return phases.peak


def _status_bytes(field: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise PcbenchError(f"peak memory: {field} in {STATUS}, got none; run on Linux")
