"""Triton's kernels compiled ahead of time for nine GPUs: on matrix units, without spills that cost."""

import os
import subprocess
import sys

import pytest
from builds import ROOT, give_up

TARGETS = ("sm_80", "sm_90", "sm_100", "sm_120", "gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1201")
MATRIX = r"mma\.sync|wgmma|tcgen05\.mma|v_mfma|v_wmma"
# KiB a block can share; of sm_80 and sm_120 what consumer GPUs of the same code have
SHARED = {"sm_80": 99, "sm_90": 227, "sm_100": 227, "sm_120": 99, "gfx950": 160}
SHARED_ELSEWHERE = 64
# bytes a thread spills at most, by channels, where any does: 256 channels on RDNA 3, whose lanes hold operands twice,
# and float32 on RDNA, which has no matrix units for it
SPILLED = {
    ("gfx1100", "bfloat16"): {256: 512},
    ("gfx1100", "float16"): {256: 512},
    ("gfx1100", "float32"): {128: 576, 256: 2048},
    ("gfx1201", "float32"): {128: 576, 256: 2048},
}
# ptxas gives up some registers of many to start one block more
PTXAS_SPILLS = 16

# compiled in a process of its own, whatever runs the kernels here
SCRIPT = """
import re, sys
from triton_code import calls, compiled
archs, names, dims, dtypes = (words.split(",") for words in sys.argv[2:])
for arch in archs:
    for name, dtype, dim, tile in calls(arch, [int(n) for n in dims], dtypes):
        if name in names:
            code = compiled(name, arch, dtype, dim, tile)
            products = len(re.findall(sys.argv[1], code.text))
            print(arch, name, dtype, dim, f"{tile.rows}x{tile.keys}", code.spill_bytes, code.shared_bytes, products)
"""
KERNELS = "attend,attend_cached,attend_cached:int4,attend_cached:fp8,merge,weigh,weigh_cached"


def check(archs, names, dims, dtypes, kernels):
    """Compiles so many kernels; they are kept under build/ as libraries are."""
    command = [sys.executable, "-c", SCRIPT, MATRIX, archs, names, dims, dtypes]
    paths = {"PYTHONPATH": f"{ROOT}/tools", "TRITON_CACHE_DIR": str(ROOT / "build/gates/triton")}
    rest = {name: x for name, x in os.environ.items() if not name.startswith("TRITON_")}
    done = subprocess.run(command, capture_output=True, text=True, env=rest | paths)
    if "No module named 'triton'" in done.stderr:
        give_up("Triton is not installed")
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert len(lines) == kernels
    for line in lines:
        arch, name, dtype, dim, _, spilled, shared, products = line.split()
        multiplied = "float32" if ":" in name else dtype
        most = PTXAS_SPILLS if arch.startswith("sm") else SPILLED.get((arch, multiplied), {}).get(int(dim), 0)
        assert int(spilled) <= most, line
        assert int(shared) <= 1024 * SHARED.get(arch, SHARED_ELSEWHERE), line
        assert multiplied == "float32" or name == "merge" or int(products) > 0, line


@pytest.mark.parametrize("vendor", ["sm", "gfx"])
def test_kernels_compile_for_gpus_that_are_not_here(vendor):
    archs = [arch for arch in TARGETS if arch.startswith(vendor)]
    check(",".join(archs), "attend,attend_cached,weigh", "128", "bfloat16", 4 * len(archs))


@pytest.mark.slow
@pytest.mark.parametrize("arch", TARGETS)
def test_every_kernel_compiles_for_a_gpu_that_is_not_here(arch):
    check(arch, KERNELS, "64,128,256", "bfloat16,float16,float32", 90)
