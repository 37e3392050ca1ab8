"""The GPU ops on an emulator: built when a test first asks, loaded once, with orders and counts to choose and read."""

import ctypes
import itertools
import platform
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from builds import ROOT, alone_in, build

from pcbench.ops.portable import read_portable_calls

__all__ = ["LIBRARIES", "ORDERS", "EmulatedOps", "blocks_run", "emulated_ops", "everywhere", "pairwise"]

BUILD = ROOT / "build/emulator"
# cuda: warps of 32; hip: waves of 64
LIBRARIES = ("cuda", "hip")
ORDERS = ("forward", "reverse", "seeded")


class EmulatedOps:
    """The ops of an emulated library, by name, as `pcbench.ops.backend` gives them; tensors are on the CPU.

    Args:
        name: one of LIBRARIES.
        path: of the built library.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.backend = name
        torch.ops.load_library(path)
        self._ops = getattr(torch.ops, f"pcbench_emulated_{name}")
        self.library = ctypes.CDLL(str(path))
        self.library.pcbench_emulator_count.restype = ctypes.c_int64
        self.library.pcbench_emulator_counters.restype = ctypes.c_char_p
        self._blocks_before = 0
        _loaded.append(self)

    def __getattr__(self, op: str) -> Any:
        return getattr(self._ops, op)

    @contextmanager
    def order(self, order: str, seed: int = 1) -> Iterator[None]:
        """Threads take turns in one of ORDERS."""
        self.library.pcbench_emulator_order(ORDERS.index(order), ctypes.c_uint64(seed))
        yield
        self.library.pcbench_emulator_order(0, ctypes.c_uint64(1))

    @contextmanager
    def matrix_cores(self, arch: str) -> Iterator[None]:
        """The matrix cores are those of `arch`: gfx90a takes subnormal fp16 inputs for 0, all others as they are."""
        self.library.pcbench_emulator_flush_subnormal_inputs(ctypes.c_bool(arch == "gfx90a"))
        yield
        self.library.pcbench_emulator_flush_subnormal_inputs(ctypes.c_bool(False))

    def portable_calls(self) -> Counter[str]:
        """As pcbench.ops.portable, of this library."""
        return read_portable_calls(self.library)

    def reset(self) -> None:
        """Sets all counts to 0."""
        self._blocks_before = self.blocks_run()
        self.library.pcbench_emulator_reset()

    def blocks_run(self) -> int:
        """Blocks of all kernels since the library was loaded."""
        return self._blocks_before + int(self.library.pcbench_emulator_count(b"blocks"))

    def counts(self) -> dict[str, int]:
        """What was counted since the reset, by name: blocks, instructions, bank conflicts."""
        names = self.library.pcbench_emulator_counters().decode().splitlines()
        return {name: self.library.pcbench_emulator_count(name.encode()) for name in names}


_loaded: list[EmulatedOps] = []


def blocks_run() -> dict[str, int]:
    """Blocks that each loaded library has run."""
    return {ops.backend: ops.blocks_run() for ops in _loaded}


@cache
def emulated_ops(name: str) -> EmulatedOps:
    """The ops of one emulated library, built if its sources changed."""
    _build()
    return EmulatedOps(name, BUILD / f"libpcbench_emulated_{name}.so")


@cache
def _build() -> None:
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"the emulator switches stacks on x86-64 only, this is {platform.machine()}")
    with alone_in(BUILD):
        build(
            BUILD, [f"pcbench_emulated_{name}" for name in LIBRARIES], "-DPCBENCH_EMULATOR=ON", "-DPCBENCH_BACKEND=cpu"
        )


def pairwise(**factors: list[Any]) -> list[dict[str, Any]]:
    """Few rows in which every two values of different factors meet at least once, the same every time.

    Args:
        factors: the values of each factor.
    """
    names = list(factors)
    open_pairs = {
        (a, x, b, y)
        for a, b in itertools.combinations(range(len(names)), 2)
        for x in range(len(factors[names[a]]))
        for y in range(len(factors[names[b]]))
    }
    rows = []
    while open_pairs:
        a, x, b, y = min(open_pairs)
        row = {a: x, b: y}
        for c in range(len(names)):
            if c not in row:
                row[c] = max(range(len(factors[names[c]])), key=lambda z: _new_pairs(row, c, z, open_pairs))
        open_pairs -= {(i, row[i], j, row[j]) for i, j in itertools.combinations(range(len(names)), 2)}
        rows.append({names[c]: factors[names[c]][row[c]] for c in range(len(names))})
    return rows


def everywhere(factors: dict[str, list[Any]], **chosen: Any) -> Iterator[dict[str, Any]]:
    """Every row of the product with some values chosen; the orders take turns.

    Args:
        factors: the values of each factor; `order` is one of them.
        chosen: factor → its only value.
    """
    orders = itertools.cycle(ORDERS)
    single = {name: [value] for name, value in chosen.items()} | {"order": [""]}
    for values in itertools.product(*(factors | single).values()):
        yield dict(zip(factors, values, strict=True)) | {"order": next(orders)}


def _new_pairs(row: dict[int, int], c: int, z: int, open_pairs: set[tuple[int, int, int, int]]) -> int:
    return sum(((i, x, c, z) if i < c else (c, z, i, x)) in open_pairs for i, x in row.items())
