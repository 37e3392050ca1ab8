"""How much of a call one program takes: sizes at which no kernel spills, read by tests/gates/test_triton_code.py."""

from typing import NamedTuple

import torch

__all__ = ["FEWEST", "Tile", "family", "padded", "tile"]

# rows, keys and channels of a matrix product at least
FEWEST = 16


class Tile(NamedTuple):
    """Rows and keys of a program's products, its warps, and the tiles of keys that are under way at once."""

    rows: int
    keys: int
    warps: int = 4
    stages: int = 1


# family of GPUs, bytes of a number → channels → tile; of attention, then of the mass alone
_ATTENTION = {
    ("nvidia", 2): {64: Tile(64, 64, stages=2), 128: Tile(128, 64, 8, 2), 256: Tile(64, 32, 8, 2)},
    ("nvidia", 4): {64: Tile(32, 32, stages=2), 128: Tile(32, 16, stages=2), 256: Tile(16, 16, stages=2)},
    ("cdna", 2): {64: Tile(64, 64), 128: Tile(64, 32), 256: Tile(64, 16)},
    ("cdna", 4): {64: Tile(32, 32), 128: Tile(32, 16), 256: Tile(16, 16)},
    ("rdna", 2): {64: Tile(64, 32), 128: Tile(32, 16), 256: Tile(16, 16)},
    ("rdna", 4): {64: Tile(16, 16), 128: Tile(16, 16), 256: Tile(16, 16)},
}
_MASS = {
    ("nvidia", 2): {64: Tile(64, 64), 128: Tile(64, 64), 256: Tile(64, 32, 8)},
    ("nvidia", 4): {64: Tile(32, 32), 128: Tile(32, 32), 256: Tile(16, 16)},
    ("cdna", 2): {64: Tile(64, 64), 128: Tile(64, 64), 256: Tile(32, 32)},
    ("cdna", 4): {64: Tile(32, 32), 128: Tile(32, 16), 256: Tile(16, 16)},
    ("rdna", 2): {64: Tile(32, 32), 128: Tile(32, 32), 256: Tile(16, 16)},
    ("rdna", 4): {64: Tile(32, 32), 128: Tile(16, 16), 256: Tile(16, 16)},
}


def padded(size: int) -> int:
    """The power of two that holds so many channels or rows, at least FEWEST."""
    return max(FEWEST, 1 << max(0, size - 1).bit_length())


def family(arch: str) -> str:
    """nvidia (sm_N), cdna (gfx9) or rdna (gfx11, gfx12); nvidia of what has no name."""
    return "cdna" if arch.startswith("gfx9") else "rdna" if arch.startswith("gfx") else "nvidia"


def tile(arch: str, dtype: torch.dtype, dim: int, rows: int, *, mass: bool = False, codes: bool = False) -> Tile:
    """The tile of a call.

    Args:
        arch: of the GPU, as `TorchGpu.arch`.
        dtype: of q.
        dim: D, up to 256.
        rows: of products with one kv-head's keys.
        mass: of the mass alone, not of attention.
        codes: of attention over codes, which are multiplied as float32.
    """
    if codes:
        # decoding them takes registers, too
        return tile(arch, torch.float32, dim, rows)._replace(warps=8, stages=1)
    full = (_MASS if mass else _ATTENTION)[family(arch), dtype.itemsize][max(64, padded(dim))]
    few = rows <= FEWEST and full.stages > 1 and dtype.itemsize == 2
    # decoding waits for keys
    return full._replace(rows=min(full.rows, padded(rows)), stages=3 if few else full.stages)
