"""Calls that ran a portable GPU kernel although their dtype has a tensor-core kernel."""

import ctypes
from collections import Counter

from pcbench.ops.libraries import load

__all__ = ["portable_calls", "read_portable_calls"]


def portable_calls(backend: str) -> Counter[str]:
    """How often 16-bit inputs ran a portable kernel in this process, by op and reason; none on other backends.

    Args:
        backend: reference, cpu, cuda or hip.
    """
    library = load(backend) if backend in ("cuda", "hip") else ""
    return Counter() if isinstance(library, str) else read_portable_calls(library)


def read_portable_calls(library: ctypes.CDLL) -> Counter[str]:
    """The same of a loaded library."""
    library.pcbench_portable_calls.restype = ctypes.c_char_p
    lines = library.pcbench_portable_calls().decode().splitlines()
    return Counter({what: int(count) for count, what in (line.split(" ", 1) for line in lines)})
