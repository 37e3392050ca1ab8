"""pcbench: speed, memory and accuracy of training-free long-context methods, measured in one honest run.

`pcbench.ops.<name>` are the compiled kernels, `pcbench.reference.<name>` the same in pure PyTorch,
`pcbench.answer` runs a method on a model. Importing the package imports no torch.
"""

from importlib import import_module
from typing import Any

__all__ = ["answer", "ops", "reference"]


def __getattr__(name: str) -> Any:
    if name == "answer":
        return import_module("pcbench.harness.answers").answer
    if name in ("ops", "reference"):
        return import_module(f"pcbench.{name}")
    raise AttributeError(f"module 'pcbench' has no attribute {name!r}")
