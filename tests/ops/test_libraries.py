"""Loading, and why a backend cannot run."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pcbench import _build_info, ops
from pcbench.errors import BackendUnavailable, ConfigError
from pcbench.ops import libraries
from pcbench.ops.gpus import TorchGpu
from pcbench.ops.isa import cpu_isa, cpu_isas, use_cpu_isa


def python(code, **environment):
    """Runs code in a process of its own; returns (exit code, stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | environment
    )
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def test_import_loads_no_library():
    code = "from pcbench import ops; print('libpcbench' in open('/proc/self/maps').read())"
    assert python(code)[:2] == (0, "False")


def test_this_process_has_the_library_under_test_and_no_other():
    assert ops.why_not("cpu") is None
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    wanted = Path(_build_info.__file__).with_name("libpcbench_cpu.so").resolve()
    assert {Path(path) for path in mapped if path.endswith("libpcbench_cpu.so")} == {wanted}


def test_why_not_is_none_for_what_runs():
    assert ops.why_not("reference") is None
    assert ops.why_not("cpu") is None
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for dim in (64, 96, 128):
            assert ops.why_not("cpu", "calibrated_attention", head_dim=dim, dtype=dtype) is None
    assert ops.why_not("cpu", "merge_states", head_dim=80) is None


def test_why_not_says_what_is_missing():
    assert ops.why_not("cpu", "window_mass", head_dim=80) == "window_mass on cpu needs head_dim 64, 96 or 128, got 80"
    assert ops.why_not("cpu", head_dim=80) == "cpu attention needs head_dim 64, 96 or 128, got 80"
    found = ops.why_not("cpu", "merge_states", dtype=torch.float64)
    assert found == "merge_states on cpu needs float32, bfloat16 or float16, got float64"
    built = ", ".join(_build_info.backends)
    for backend in {"cuda", "hip"} - set(_build_info.backends) - set(_build_info.why_not):
        assert ops.why_not(backend) == f"this build has no {backend} kernels (built for {built})"


@pytest.fixture
def pretend(monkeypatch):
    """pretend(**fields): another build, and libraries that were never loaded."""

    def replace(**fields):
        info = SimpleNamespace(**vars(_build_info) | fields)
        monkeypatch.setattr(libraries, "import_module", lambda name: info)
        monkeypatch.setattr(libraries, "load", cache(libraries.load.__wrapped__))

    return replace


def test_compiler_that_was_missing_at_build_time_is_the_reason(pretend):
    pretend(backends=["cpu"], why_not={"cuda": "nvcc was not found"})
    assert ops.why_not("cuda") == "this build has no cuda kernels (nvcc was not found)"
    assert ops.why_not("hip") == "this build has no hip kernels (built for cpu)"


def test_loaded_gpu_library_needs_a_gpu_and_a_kernel(pretend, monkeypatch):
    pretend(backends=["cpu", "cuda"], arch_lists={"cuda": ["sm_90"]})
    monkeypatch.setattr(libraries, "load", lambda backend: object())
    for gpu, reason in [
        (TorchGpu("cuda"), "cuda kernels need a GPU, and torch finds none"),
        (TorchGpu("cuda", "T4", "sm_75"), "this build has code for sm_90, got T4, which is sm_75"),
        (TorchGpu("cuda", "H200", "sm_90"), None),
    ]:
        monkeypatch.setattr(libraries.TorchGpu, "here", lambda gpu=gpu: gpu)
        assert ops.why_not("cuda", "merge_states") == reason
    assert ops.why_not("cuda", "window_mass", dtype=torch.float16, head_dim=96) is None
    assert ops.why_not("cuda", "window_mass", head_dim=80) == "window_mass on cuda needs head_dim 64, 96 or 128, got 80"
    needs = "merge_states on cuda needs float32, bfloat16 or float16, got float64"
    assert ops.why_not("cuda", "merge_states", dtype=torch.float64) == needs


def test_why_not_knows_its_names():
    with pytest.raises(ConfigError, match='ops: unknown backend "cpo"; did you mean "cpu"'):
        ops.why_not("cpo")
    with pytest.raises(ConfigError, match='unknown op "select_token"; did you mean "select_tokens"'):
        ops.why_not("cpu", "select_token")


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_failed_load_is_explained_and_remembered(pretend, backend, tmp_path):
    # the CPU's library is loaded first: it owns the schema
    broken = tmp_path / "libpcbench_cpu.so"
    broken.write_bytes(b"no library" * 99)
    pretend(backends=["cpu", "cuda"], __file__=str(tmp_path / "_build_info.so"))
    first = ops.libraries.why_not(backend)
    assert first == f"library {broken}: {broken}: invalid ELF header"
    broken.unlink()
    assert ops.libraries.why_not(backend) == first


def test_missing_extension_is_explained():
    code = "import sys; sys.modules['pcbench._build_info'] = None; from pcbench import ops; print(ops.why_not('cpu'))"
    assert "the extension is not built" in python(code)[1]


@pytest.mark.parametrize("name", cpu_isas())
def test_environment_chooses_the_instruction_set(name):
    code = "from pcbench.ops import why_not; from pcbench.ops.isa import cpu_isa; print(why_not('cpu'), cpu_isa())"
    assert python(code, PCBENCH_CPU_ISA=name)[:2] == (0, f"None {name}")


def test_naming_the_instruction_sets_chooses_none():
    code = "from pcbench.ops.isa import cpu_isa, cpu_isas; names = cpu_isas(); print(cpu_isa(), *names)"
    assert python(code, PCBENCH_CPU_ISA="sse")[:2] == (0, " ".join(["none", *cpu_isas()]))


def test_unknown_instruction_set_in_the_environment_is_an_error():
    code = "from pcbench import ops; ops.backend('cpu')"
    status, _, stderr = python(code, PCBENCH_CPU_ISA="avx1024")
    assert status
    known = ", ".join(cpu_isas())
    assert f"PCBENCH_CPU_ISA: must be one of {known} on this CPU, got avx1024; unset it" in stderr


def test_direct_call_without_an_instruction_set_fails():
    code = (
        "import torch; from pcbench.ops import why_not; print(why_not('cpu')); x = torch.zeros(1, 1, 1, 1, 64);"
        "torch.ops.pcbench.merge_states(x, x[..., 0])"
    )
    status, stdout, stderr = python(code, PCBENCH_CPU_ISA="sse")
    assert status
    assert "got sse" in stdout
    assert "RuntimeError: merge_states: PCBENCH_CPU_ISA: must be one of" in stderr


def test_the_fastest_dtype_without_an_instruction_set_is_float32():
    code = "from pcbench.ops.isa import fastest_dtype; print(fastest_dtype('cpu'), fastest_dtype('cuda'))"
    assert python(code, PCBENCH_CPU_ISA="sse")[:2] == (0, "float32 bfloat16")


def test_use_cpu_isa_refuses_what_is_not_there():
    with pytest.raises(ConfigError, match='ops: unknown instruction set "avx3"'):
        use_cpu_isa("avx3")
    assert cpu_isa() in cpu_isas()


def test_build_info_is_complete():
    assert _build_info.torch_target == "2.10"
    assert _build_info.torch_flavour in ("cpu", "cuda", "hip")
    assert set(_build_info.cpu_isas) >= {"portable"}
    assert isinstance(_build_info.cpu_features(), list)
    assert {"cxx", *_build_info.backends} == {*_build_info.compilers, "cpu"}
    assert {name for name, code in _build_info.arch_lists.items() if code} == {*_build_info.backends} - {"cpu"}
    assert all(
        set(used) == {"registers", "spill_bytes", "shared_bytes"} for used in _build_info.kernel_resources.values()
    )


def test_backend_unavailable_carries_the_reason():
    missing = next(b for b in ("hip", "cuda") if ops.why_not(b))
    with pytest.raises(BackendUnavailable) as error:
        ops.backend(missing)
    assert error.value.reasons == {missing: ops.why_not(missing)}
