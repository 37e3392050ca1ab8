"""pcbench: speed, memory and accuracy of training-free long-context methods, measured in one honest run.

`pcbench.run` measures a suite and gives its `Run`, `pcbench.load_model` loads a model by name, `pcbench.answer` runs a
method on a model, `pcbench.attach` puts one into it. `pcbench.ops.<name>` are the compiled kernels,
`pcbench.reference.<name>` the same in pure PyTorch.
Importing the package imports no torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

__all__ = ["Run", "answer", "attach", "load_model", "ops", "reference", "run"]

PLACES = {
    "Run": "pcbench.api",
    "answer": "pcbench.harness.answers",
    "attach": "pcbench.models.attach",
    "load_model": "pcbench.api",
    "run": "pcbench.api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("pcbench")
    if name in PLACES:
        return getattr(import_module(PLACES[name]), name)
    if name in ("ops", "reference"):
        return import_module(f"pcbench.{name}")
    raise AttributeError(f"module 'pcbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__, "__version__"]
