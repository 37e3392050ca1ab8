"""What this machine has."""

import psutil

__all__ = ["memory_bytes"]


def memory_bytes() -> int:
    """Memory of the machine, swap included."""
    return int(psutil.virtual_memory().total + psutil.swap_memory().total)
