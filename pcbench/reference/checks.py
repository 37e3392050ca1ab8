"""Argument checks in words, shared by the reference and the compiled ops so that both raise the same errors.

Only shapes, dtypes, layouts and host numbers are looked at: values on a device are never read.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pcbench.errors import ShapeError

__all__ = ["Arguments"]

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Arguments:
    """Binds shape letters while the arguments of one call are checked.

    Args:
        op: the op's name, for messages.
    """

    def __init__(self, op: str) -> None:
        self.op = op
        self.sizes: dict[str, int] = {}
        self.first: tuple[str, torch.device] | None = None

    def fail(self, expected: str, actual: object) -> ShapeError:
        return ShapeError(f"{self.op}: {expected}, got {actual}; see help(pcbench.reference.{self.op})")

    def tensor(self, name: str, value: Tensor, shape: str, dtypes: tuple[torch.dtype, ...]) -> None:
        """`value` has the letters of `shape` ("B Hkv S D", or 1), one of `dtypes`, a contiguous last dimension and the
        device of the other tensors.
        """
        lead, device = self.first = self.first or (name, value.device)
        if value.device != device:
            raise self.fail(f"{name} must be on {device} as {lead} is", value.device)
        letters = shape.split()
        if value.dim() != len(letters):
            raise self.fail(f"{name} must be [{', '.join(letters)}]", list(value.shape))
        for letter, size in zip(letters, value.shape, strict=True):
            bound = 1 if letter == "1" else self.sizes.setdefault(letter, size)
            if size != bound:
                known = "" if letter == "1" else f" with {letter} = {bound}"
                raise self.fail(f"{name} must be [{', '.join(letters)}]{known}", list(value.shape))
        if value.dtype not in dtypes:
            raise self.fail(f"{name} must be {' or '.join(_name(d) for d in dtypes)}", _name(value.dtype))
        if value.dim() and value.shape[-1] > 1 and value.stride(-1) != 1:
            raise self.fail(f"{name} must have a contiguous last dimension", f"strides {list(value.stride())}")

    def floats(self, name: str, value: Tensor, shape: str, like: Tensor | None = None) -> None:
        self.tensor(name, value, shape, FLOATS if like is None else (like.dtype,))

    def state(self, name: str, value: Tensor | None, shape: str) -> None:
        """An optional float32 tensor (float64 beside float64 inputs)."""
        if value is not None:
            self.tensor(name, value, shape, (torch.float32, torch.float64))

    def contiguous(self, name: str, value: Tensor) -> None:
        """All of `value` lies together, row by row."""
        if not value.is_contiguous():
            raise self.fail(f"{name} must be contiguous", f"strides {list(value.stride())}")

    def ints(self, name: str, value: Tensor | None, shape: str) -> None:
        if value is not None:
            self.tensor(name, value, shape, (torch.int32,))

    def one_of(self, name: str, value: Tensor | None, shapes: tuple[str, ...], dtypes: tuple[torch.dtype, ...]) -> None:
        """`value` fits one of `shapes`; the first whose head letter has the right size is checked."""
        if value is None:
            return None
        for shape in shapes:
            letters = shape.split()
            if value.dim() == len(letters) and value.shape[1] == self.sizes[letters[1]]:
                return self.tensor(name, value, shape, dtypes)
        heads = " or ".join(f"[{', '.join(s.split())}]" for s in shapes)
        raise self.fail(f"{name} must be {heads} with {self.sizes}", list(value.shape))

    def grouped(self) -> None:
        """H is a multiple of Hkv, and there is one."""
        heads, kv_heads = self.sizes["H"], self.sizes["Hkv"]
        if heads == 0 or kv_heads == 0 or heads % kv_heads:
            raise self.fail(f"H must be a multiple of Hkv = {kv_heads}", heads)

    def number(self, name: str, value: float, test: Callable[[float], bool], expected: str) -> None:
        if not test(value):
            raise self.fail(f"{name} must be {expected}", value)
        if value >= 2**63:
            raise self.fail(f"{name} must be below 2^63", value)

    def together(self, **values: Tensor | None) -> None:
        """All of `values` are given, or none."""
        if len({v is None for v in values.values()}) > 1:
            missing = ", ".join(n for n, v in values.items() if v is None)
            raise self.fail(f"{' and '.join(values)} go together", f"no {missing}")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
