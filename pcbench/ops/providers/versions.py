"""Which code computes attention here: times of other code tell nothing of it."""

import hashlib
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import torch

__all__ = ["code"]

# of the adapters in pcbench.ops.providers.libraries
PACKAGES = ("aiter", "flash_attn", "flash_attn_interface")


def code(backend: str) -> str:
    """Our own kernels by the start of their hash, cuDNN and the packages that are imported by their versions.

    Args:
        backend: a compiled one, or triton.
    """
    packages = {name: getattr(sys.modules[name], "__version__", "") for name in PACKAGES if name in sys.modules}
    parts = {backend: _own(backend)[:16], "cudnn": torch.backends.cudnn.version()} | packages
    return ", ".join(f"{name} {version}" for name, version in parts.items() if version)


@cache
def _own(backend: str) -> str:
    """SHA-256 of the backend's library, or of Triton's sources."""
    if backend == "triton":
        paths = sorted((Path(__file__).parent.parent / "triton").glob("*.py"))
    else:
        paths = [Path(str(import_module("pcbench._build_info").__file__)).parent / f"libpcbench_{backend}.so"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
