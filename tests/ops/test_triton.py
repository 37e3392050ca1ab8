"""The backend triton: its kernels by Triton's interpreter, what it refuses, and when `auto` stands for it."""

import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from builds import ROOT, give_up

from pcbench import ops, reference
from pcbench.errors import BackendUnavailable
from pcbench.ops import backends
from pcbench.ops.gpus import TorchGpu
from pcbench.ops.triton.tiles import FEWEST, tile
from pcbench.ops.triton_refusal import KERNELS, MISSING, triton_refusal

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
H200 = TorchGpu("cuda", "NVIDIA H200", "sm_90")


@needs_triton
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_interpreted_kernels_equal_the_reference(dtype):
    done = subprocess.run([sys.executable, ROOT / "tests/triton_parity.py", dtype], capture_output=True, text=True)
    if "only 0-dimensional arrays can be converted" in done.stderr:
        give_up("this Triton's interpreter needs numpy < 2.4; compiled kernels do not")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = done.stdout.splitlines()
    assert all(line.startswith("ok") for line in found)
    assert {line.split()[1].partition("-")[0] for line in found} == set(KERNELS)
    assert len(found) > 140


@needs_triton
@pytest.mark.parametrize(
    ("gpu", "asked", "reason"),
    [
        (H200, (None, None), None),
        (H200, ("cached_attention", 256), None),
        (TorchGpu("hip", "AMD Radeon RX 7900 XTX", "gfx1100"), ("key_mass", 80), None),
        (TorchGpu("hip", "AMD Instinct MI355X", "gfx950"), (None, 112), None),
        (H200, ("cached_attention", 512), "cached_attention in Triton needs head_dim up to 256, got 512"),
        (H200, ("dual_chunk_attention", 64), "dual_chunk_attention has no kernel in Triton"),
        (TorchGpu("cpu"), (None, None), "Triton's kernels need a GPU, and torch finds none"),
        (
            TorchGpu("cuda", "Tesla T4", "sm_75"),
            (None, None),
            "Triton's kernels need sm_80 or later, gfx9, gfx11 or gfx12, got Tesla T4, which is sm_75",
        ),
    ],
)
def test_it_says_what_it_cannot_run(gpu, asked, reason):
    assert triton_refusal(*asked, gpu) == reason


def test_without_triton_it_says_so(monkeypatch):
    monkeypatch.setattr("pcbench.ops.triton_refusal.find_spec", lambda name: None)
    assert ops.why_not("triton") == "Triton is not installed; builds of torch for CUDA and ROCm bring it"
    with pytest.raises(BackendUnavailable, match="backend triton must be able to run here, got: Triton is not inst"):
        ops.backend("triton")


def test_every_op_has_a_kernel_or_a_reason_or_is_plain_pytorch():
    plain = {"chunk_select", "chunk_topk", "query_nll_update", "select_tokens"}
    assert {*KERNELS, *MISSING, *plain} == set(reference.__all__)


@pytest.mark.parametrize(
    ("device", "head_dim", "refused", "chosen"),
    [
        ("cuda", 128, {}, "cuda"),
        ("cuda", 256, {}, "triton"),
        ("cuda", 512, {}, "cuda"),
        ("rocm", 128, {"hip": "this build has code for gfx942, got one of gfx1100"}, "triton"),
        ("rocm", 128, {"hip": "no code", "triton": "Triton is not installed"}, "hip"),
        ("cpu", 80, {"cpu": "the extension is not built"}, "cpu"),
    ],
)
def test_auto_is_triton_where_a_gpu_has_nothing_compiled(monkeypatch, device, head_dim, refused, chosen):
    most = {"cuda": (64, 96, 128), "hip": (64, 96, 128), "cpu": (64, 96, 128), "triton": range(257)}

    def why_not(backend, op=None, *, head_dim=None, dtype=None):
        return refused.get(backend) or (None if head_dim in most[backend] else f"no head_dim {head_dim}")

    monkeypatch.setattr(backends, "why_not", why_not)
    assert ops.automatic_backend(device, head_dim) == chosen


@pytest.mark.parametrize("arch", ["", "sm_80", "gfx942", "gfx1100"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_tile_holds_few_rows_and_every_head_dim(arch, dtype):
    for dim in (1, 64, 80, 96, 112, 128, 192, 256):
        assert tile(arch, dtype, dim, 1).rows == FEWEST
        for mass in (False, True):
            whole = tile(arch, dtype, dim, 5000, mass=mass)
            assert min(whole.rows, whole.keys) >= FEWEST
