"""Which GPUs a library has code for, from facts alone."""

import pytest
import torch

from pcbench.ops.gpus import TorchGpu

CODE = {"cuda": ["sm_80", "compute_80", "sm_90"], "hip": ["gfx90a", "gfx942"]}


@pytest.mark.parametrize(
    ("backend", "name", "arch"),
    [
        ("cuda", "NVIDIA A100-SXM4-80GB", "sm_80"),
        ("cuda", "NVIDIA L4", "sm_89"),
        ("cuda", "NVIDIA H200", "sm_90"),
        ("cuda", "NVIDIA B200", "sm_100"),
        ("hip", "AMD Instinct MI250X", "gfx90a"),
        ("hip", "AMD Instinct MI300X", "gfx942"),
    ],
)
def test_gpu_with_code_can_run(backend, name, arch):
    assert TorchGpu(backend, name, arch).why_not(backend, CODE[backend]) is None


@pytest.mark.parametrize(
    ("gpu", "backend", "reason"),
    [
        (TorchGpu("cpu"), "cuda", "cuda kernels need a torch that is built for cuda, got one for cpu"),
        (TorchGpu("hip", "AMD", "gfx942"), "cuda", "cuda kernels need a torch that is built for cuda, got one for hip"),
        (TorchGpu("cuda"), "cuda", "cuda kernels need a GPU, and torch finds none"),
        (
            TorchGpu("cuda", "Tesla T4", "sm_75"),
            "cuda",
            "this build has code for sm_80, PTX for sm_80 and later, sm_90, got Tesla T4, which is sm_75",
        ),
        (
            TorchGpu("hip", "AMD Radeon RX 7900 XTX", "gfx1100"),
            "hip",
            "this build has code for gfx90a, gfx942, got AMD Radeon RX 7900 XTX, which is gfx1100",
        ),
    ],
)
def test_why_not_says_what_is_missing(gpu, backend, reason):
    assert gpu.why_not(backend, CODE[backend]) == reason


def test_machine_code_alone_serves_one_generation():
    assert TorchGpu("cuda", "L4", "sm_89").why_not("cuda", ["sm_80"]) is None
    assert TorchGpu("cuda", "H200", "sm_90").why_not("cuda", ["sm_80"])
    assert TorchGpu("cuda", "A100", "sm_80").why_not("cuda", ["sm_86"])


def test_here_is_the_torch_of_this_process():
    here = TorchGpu.here()
    assert here.flavour == ("hip" if torch.version.hip else "cuda" if torch.version.cuda else "cpu")
    assert (here.name is None) == (not torch.cuda.is_available())
