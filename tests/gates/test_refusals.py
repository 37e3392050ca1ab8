"""What a build refuses before it compiles: fake versions of nvcc, clang, torch and GPUs."""

import os
import subprocess
import sys

import pytest
from builds import ROOT, tool


def said(tmp_path, *calls):
    """What functions of refusals.cmake set, one line a call."""
    script = tmp_path / "ask.cmake"
    lines = [f'{call}\nfile(APPEND "{tmp_path}/said" "${{found}}\\n")' for call in calls]
    script.write_text("\n".join((f"include({ROOT}/ext/refusals.cmake)", *lines)))
    subprocess.run([tool("cmake"), "-P", script], check=True)
    return (tmp_path / "said").read_text().splitlines()


def test_nvcc_of_another_major_version_than_torch_is_refused(tmp_path):
    asked = [("12.4.131", "13.0"), ("13.1", "13.0"), ("13.0", ""), ("9.2", "10.2")]
    old, *same, ten = said(tmp_path, *(f'pcbench_refuse_nvcc(found "{nvcc}" "{torch}")' for nvcc, torch in asked))
    assert old == (
        "nvcc is 12.4.131 and torch is built for CUDA 13.0; install the toolkit of CUDA 13 and name its nvcc in CUDACXX"
    )
    assert same == ["", ""]
    assert "install the toolkit of CUDA 10 " in ten


def test_clang_before_19_is_refused(tmp_path):
    texts = (
        "AMD clang version 18.0.0git (https://github.com/RadeonOpenCompute)",
        "Debian clang version 19.1.7",
        "gcc 14",
    )
    old, new, other = said(tmp_path, *(f'pcbench_refuse_clang(found amdclang++ "{text}")' for text in texts))
    assert old == (
        "amdclang++ is clang 18, and the kernels need LLVM 19 or later; name a newer clang++ in PCBENCH_HIP_COMPILER"
    )
    assert new == ""
    assert other.startswith("amdclang++ --version names no clang version; ")


@pytest.mark.parametrize(
    ("code", "present", "without"),
    [
        ("sm_80;compute_80;sm_90", "sm_90;sm_80;sm_86;sm_100", ""),
        ("sm_80;sm_90", "sm_86;sm_100;sm_75;sm_100", "sm_100, sm_75"),
        ("compute_90", "sm_80;sm_120", "sm_80"),
        ("gfx90a;gfx942", "gfx942;gfx90a", ""),
        ("gfx90a;gfx942", "gfx1100;gfx942", "gfx1100"),
        ("sm_80", "", ""),
    ],
)
def test_gpus_without_code_are_named(tmp_path, code, present, without):
    (found,) = said(tmp_path, f'pcbench_refuse_gpus(found "{code}" "{present}" PCBENCH_CUDA_ARCHITECTURES)')
    if not without:
        assert found == ""
        return
    built = code.replace(";", ", ")
    assert found == (
        f"a GPU of this machine is {without}, and this build has code for {built}; to run on it, "
        "set PCBENCH_CUDA_ARCHITECTURES"
    )


def test_gpus_of_amd_are_read_from_the_kernels_files(tmp_path):
    for node, version in enumerate((0, 90402, 90010, 110000)):
        folder = tmp_path / f"nodes/{node}"
        folder.mkdir(parents=True)
        (folder / "properties").write_text(f"cpu_cores_count 0\ngfx_target_version {version}\nvendor_id 4098\n")
    ask = f'set(PCBENCH_KFD_NODES "{tmp_path}/nodes")\npcbench_present_gpus(found hip)'
    assert said(tmp_path, ask) == ["gfx942;gfx90a;gfx1100"]


def test_gpus_of_nvidia_are_those_of_nvidia_smi(tmp_path):
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 9.0\necho 12.0\n")
    smi.chmod(0o755)
    ask = f'set(PCBENCH_NVIDIA_SMI "{smi}")\npcbench_present_gpus(found cuda)'
    assert said(tmp_path, ask) == ["sm_90;sm_120"]


def configured(tmp_path, *options, **variables):
    """What a configuration of the whole project says on stderr, on one line."""
    paths = [f"-DPython_EXECUTABLE={sys.executable}", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"]
    command = [tool("cmake"), "-S", ROOT, "-B", tmp_path / "build", "-G", "Ninja", *paths, *options]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | variables)
    assert done.returncode, done.stdout
    return " ".join(done.stderr.split())


def test_a_build_for_cuda_stops_where_torch_is_of_another_major_version(tmp_path):
    torch = tmp_path / "torch"
    torch.mkdir()
    (torch / "__init__.py").touch()
    (torch / "version.py").write_text("__version__ = '2.13.0+cu118'\ncuda = '11.8'\nhip = None\n")
    message = configured(tmp_path, "-DPCBENCH_BACKEND=cuda", PYTHONPATH=str(tmp_path))
    if "nvcc was not found" in message:
        pytest.skip("no nvcc here")
    assert "PCBENCH_BACKEND=cuda: nvcc is " in message
    assert "and torch is built for CUDA 11.8; install the toolkit of CUDA 11" in message


def test_a_build_for_hip_stops_at_an_old_clang(tmp_path):
    clang = tmp_path / "clang++"
    clang.write_text("#!/bin/sh\necho 'clang version 17.0.6'\n")
    clang.chmod(0o755)
    given = [
        f"-DPCBENCH_HIP_{name}={path}" for name, path in (("COMPILER", clang), ("RUNTIME", clang), ("INCLUDE", "/"))
    ]
    message = configured(tmp_path, "-DPCBENCH_BACKEND=hip", *given)
    assert f"PCBENCH_BACKEND=hip: {clang} is clang 17, and the kernels need LLVM 19 or later" in message
