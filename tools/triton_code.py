"""Compiles Triton's kernels ahead of time for GPUs that are not here, and reads what became of them.

python tools/triton_code.py [ARCH...]     # every kernel, one line each

No GPU is asked. Numbers are those of cuobjdump (NVIDIA) or of the code object's notes (AMD).
"""

import inspect
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from pcbench.ops.triton import kernels
from pcbench.ops.triton.tiles import FEWEST, Tile, padded, tile

__all__ = ["DTYPES", "TARGETS", "Code", "calls", "compiled"]

TARGETS = {f"sm_{n}": GPUTarget("cuda", n, 32) for n in (80, 90, 100, 120)} | {
    arch: GPUTarget("hip", arch, 64 if arch.startswith("gfx9") else 32)
    for arch in ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1201")
}
DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
MODEL = ("q", "k", "v", "out", "k_rows", "v_rows")
FLOATS = ("lse", "mass", "outs", "lses", "out_in", "lse_in")
SCALES = ("k_scales", "k_zeros", "v_scales", "v_zeros")
INTS = ("query_lengths", "key_lengths", "evicted", "starts", "lengths", "v_starts", "slots")
# the strides of rows, which are multiples of 16 as a rule
ROWS = ("q_b", "q_h", "q_r", "k_b", "k_h", "k_r", "v_b", "v_h", "v_r", "in_r")
# bytes of codes by format
CODES = {"int8": "*i8", "int4": "*u8", "fp8": "*u8"}
FLAGS = dict.fromkeys(("CAUSAL", "CAUSAL_LAST", "QUERY_LENGTHS", "KEY_LENGTHS", "EVICTED", "STATE"), True)


@dataclass(frozen=True)
class Code:
    """A kernel for one GPU: its registers, the bytes it spills and shares, and its assembly."""

    registers: int
    spill_bytes: int
    shared_bytes: int
    text: str


def compiled(name: str, arch: str, dtype: str, dim: int, taken: Tile) -> Code:
    """A kernel by its name, for a GPU of TARGETS, inputs of DTYPES, head dim D and a tile.

    A name may end in a format of codes, as in `attend_cached:int4`.
    """
    name, _, kv_dtype = name.partition(":")
    kernel = getattr(kernels, name)
    sizes = {"DIM": dim, "C": padded(dim), "M": taken.rows, "N": taken.keys, "FORMAT": kv_dtype}
    names = list(inspect.signature(kernel.fn).parameters)
    constants = {key: value for key, value in (FLAGS | sizes).items() if key in names}
    types = {key: "constexpr" if key in constants else _type(key, dtype, kv_dtype) for key in names}
    # as a launch finds them
    aligned = {(i,): [["tt.divisibility", 16]] for i, key in enumerate(names) if key in ROWS or types[key][0] == "*"}
    options = {"num_warps": taken.warps, "num_stages": taken.stages}
    made = triton.compile(ASTSource(kernel, types, constants, aligned), target=TARGETS[arch], options=options)
    numbers = _of_nvidia(made.asm["cubin"]) if arch.startswith("sm_") else _of_amd(made.asm["amdgcn"])
    return Code(*numbers, made.metadata.shared, made.asm["ptx" if arch.startswith("sm_") else "amdgcn"])


def _type(parameter: str, dtype: str, kv_dtype: str) -> str:
    if kv_dtype and parameter in ("k_rows", "v_rows"):
        return CODES[kv_dtype]
    if parameter in SCALES:
        return "*bf16"
    if parameter in MODEL:
        return f"*{DTYPES[dtype]}"
    if parameter in FLOATS:
        return "*fp32"
    if parameter in INTS:
        return "*i32"
    return "fp32" if parameter == "scale" else "i32"


def _of_nvidia(cubin: bytes) -> tuple[int, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used: dict[str, Any] = dict(re.findall(r"(\w+):(\d+)", said))
    # nothing of a kernel is on a stack but what it spilled
    return int(used["REG"]), int(used["STACK"]) + int(used["LOCAL"])


def _of_amd(text: str) -> tuple[int, int]:
    # what scalar registers spill goes to vector registers
    found = dict(re.findall(r"\.(vgpr_count|vgpr_spill_count):\s+(\d+)", text))
    return int(found["vgpr_count"]), 4 * int(found["vgpr_spill_count"])


def main() -> None:
    for arch in sys.argv[1:] or TARGETS:
        for name, dtype, dim, taken in calls(arch):
            code = compiled(name, arch, dtype, dim, taken)
            numbers = f"{code.registers} registers, {code.spill_bytes} bytes spilled, {code.shared_bytes} shared"
            print(f"{arch} {name} {dtype} D{dim} {taken.rows}x{taken.keys}: {numbers}", flush=True)


def calls(
    arch: str, dims: Sequence[int] = (64, 128, 256), dtypes: Sequence[str] = ("bfloat16", "float32")
) -> Iterator[tuple[str, str, int, Tile]]:
    """(kernel, dtype, D, tile) of what calls of an arch start: many rows, and the few of decoding.

    Other head dims have the code of the next one here, with the rest masked.
    """
    for name in (*kernels.__all__, *(f"attend_cached:{kv_dtype}" for kv_dtype in CODES)):
        for dtype in dtypes:
            for dim in dims:
                sizes = (FEWEST, 4096) if name.startswith("attend_cached") else (4096,)
                for rows in sizes:
                    kind = {"mass": name.startswith("weigh"), "codes": ":" in name}
                    yield name, dtype, dim, tile(arch, getattr(torch, dtype), dim, rows, **kind)


if __name__ == "__main__":
    main()
