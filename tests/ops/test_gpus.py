"""Which GPUs a library has code for, from facts alone."""

import subprocess

import pytest
import torch
from builds import ROOT, tool

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


@pytest.mark.parametrize(
    ("code", "runs"),
    [("sm_90a", [90]), ("compute_90a", [90]), ("sm_100f", [100, 103]), ("compute_100f", [100, 103])],
)
def test_code_of_one_gpu_or_one_family_serves_no_other(code, runs):
    archs = (80, 90, 100, 103, 120)
    assert [n for n in archs if TorchGpu("cuda", "GPU", f"sm_{n}").why_not("cuda", [code]) is None] == runs
    said = TorchGpu("cuda", "GPU", "sm_80").why_not("cuda", [code])
    assert said == f"this build has code for {code.replace('compute', 'PTX for sm')}, got GPU, which is sm_80"


def test_here_is_the_torch_of_this_process():
    here = TorchGpu.here()
    assert here.flavour == ("hip" if torch.version.hip else "cuda" if torch.version.cuda else "cpu")
    assert (here.name is None) == (not torch.cuda.is_available())


@pytest.mark.parametrize("given", ["native", "80;all"])
def test_architecture_without_a_number_is_refused_when_the_build_is_configured(given):
    command = [tool("cmake"), f"-DPCBENCH_CUDA_ARCHITECTURES={given}", "-P", ROOT / "ext/cuda/cuda.cmake"]
    error = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    wrong = given.split(";")[-1]
    reason = f"PCBENCH_CUDA_ARCHITECTURES: must be numbers such as 80 and 90-real, got {wrong}"
    assert reason in " ".join(error.split())
