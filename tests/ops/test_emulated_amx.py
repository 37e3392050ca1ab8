"""The CPU's kernels for AMX against the float64 reference, on emulated tiles: the CPU must multiply bfloat16 pairs."""

from functools import cache

import pytest
import torch
from builds import ROOT, alone_in, build

from pcbench import _build_info
from pcbench.measure.kernels.cases import CASES, check_case
from pcbench.ops.isa import cpu_isas
from tests.ops.calls import check_logits

BUILD = ROOT / "build/emulator"
NAME = "pcbench_emulated_amx"
# those that multiply on the matrix unit
OPS = ("calibrated_attention", "key_mass", "cached_attention", "decode_attention", "window_mass")


@cache
def emulated():
    if "amx" not in _build_info.cpu_isas:
        pytest.skip("AMX is of x86-64")
    if "avx512_bf16" not in cpu_isas():
        pytest.skip("this CPU multiplies no pairs of bfloat16")
    with alone_in(BUILD):
        build(BUILD, [NAME], "-DPCBENCH_EMULATOR=ON", "-DPCBENCH_BACKEND=cpu")
    torch.ops.load_library(BUILD / f"lib{NAME}.so")
    return getattr(torch.ops, NAME)


@pytest.mark.parametrize("case", [case for case in CASES if case.op in OPS], ids=str)
def test_op_on_emulated_tiles_equals_the_reference(case):
    for result, comparison in check_case(case, emulated(), "cpu", torch.bfloat16).items():
        assert comparison.ok, f"{result}: {comparison}"


@pytest.mark.parametrize("depth", [2, 32, 34, 62, 576])
@pytest.mark.parametrize("columns", [1, 32, 100])
@pytest.mark.parametrize("rows", [15, 16, 17, 31, 32, 47, 80])
def test_logits_on_emulated_tiles_are_float32_sums(rows, columns, depth):
    check_logits(emulated(), rows, columns, depth)


def test_tiles_multiply_what_vectors_multiply():
    ops = emulated()
    q, k, v = (torch.randn(1, heads, 300, 64, dtype=torch.bfloat16) for heads in (6, 2, 2))
    got = ops.calibrated_attention(q, k, v, scale=-0.3, causal=True, mass_rows=8)
    want = torch.ops.pcbench.calibrated_attention(q, k, v, scale=-0.3, causal=True, mass_rows=8)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.float(), b.float(), rtol=1e-2, atol=2e-2)
