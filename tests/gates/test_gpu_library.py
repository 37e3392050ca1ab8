"""The GPU libraries in this torch: they load, register every op, and leave CPU tensors to the CPU's kernels."""

import re
import subprocess
import sys

import pytest
from builds import ROOT, build, give_up, tool
from tallies import TALLIES

USE = """
import sys, torch
from pcbench import ops, reference
from pcbench.measure.kernels.cases import CASES
from pcbench.ops.fakes import FAKES

torch.set_grad_enabled(False)
# the CPU's library owns the schema
assert ops.why_not("cpu") is None
torch.ops.load_library(sys.argv[1])
missing = [op for op in FAKES if not torch._C._dispatch_has_kernel_for_dispatch_key(f"pcbench::{op}", "CUDA")]
assert missing == [], missing
outs, lses = torch.randn(3, 1, 2, 4, 64), torch.randn(3, 1, 2, 4)
op = torch.ops.pcbench.merge_states
torch.testing.assert_close(op(outs, lses), reference.merge_states(outs, lses))
# what a call with GPU tensors meets first, and then; not the cases without columns, where nothing is to be done
torch.set_grad_enabled(True)
for name in FAKES:
    inputs = [case for case in CASES if case.op == name][1].inputs("cpu", torch.float32)
    lead = next(x for x in inputs.values() if torch.is_tensor(x) and x.is_floating_point())
    op = getattr(torch.ops.pcbench, name).default
    positional = [inputs.pop(a.name) for a in op._schema.arguments if not a.kwarg_only]
    for key in ("AutogradCUDA", "CUDA"):
        lead.requires_grad_(key != "CUDA")
        try:
            op.redispatch(torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key)), *positional, **inputs)
        except RuntimeError as error:
            print(error)
"""
# op → the tensor that its check looks at first
LEADS = {
    "cached_attention": "q",
    "calibrated_attention": "q",
    "chunk_topk": "scores",
    "decode_attention": "q",
    "dual_chunk_attention": "q",
    "key_mass": "q",
    "merge_states": "outs",
    "quantized_attention": "q",
    "query_nll_update": "logits",
    "select_tokens": "k",
    "window_mass": "q_last",
}


def test_library_loads_beside_the_cpu_kernels(library):
    done = subprocess.run([sys.executable, "-c", USE, library], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = [line.partition("; ")[0] for line in done.stdout.splitlines()]
    assert said == [
        line
        for op, lead in LEADS.items()
        for line in (
            f"{op}: compiled ops have no gradient, got an input that requires grad",
            f"{op}: {lead} must be on the GPU, got another device",
        )
    ]


@pytest.mark.parametrize("name", ["cuda", "hip"])
def test_ccache_compiles_everything_where_it_is(name, tmp_path):
    ccache = tmp_path / "ccache"
    ccache.write_text('#!/bin/sh\nexec "$@"\n')
    ccache.chmod(0o755)
    folder = tmp_path / "build"
    if reason := build(folder, ["help"], f"-DPCBENCH_BACKEND={name}", f"-DPCBENCH_CCACHE={ccache}"):
        give_up(reason)
    # of Ninja: what it would run, whichever way this CMake writes its launchers
    asked = [tool("ninja"), "-C", folder, "-t", "commands", f"pcbench_{name}"]
    commands = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    kernels = [c for c in commands if "-x cu " in c or "-x hip " in c]
    sources = [
        *(ROOT / f"ext/{name}").glob("*.cu" if name == "cuda" else "*.hip"),
        *(ROOT / "ext/device").glob("*.cpp"),
    ]
    assert len({re.search(r" -c (\S+)", c)[1] for c in kernels}) == len(sources)
    compiled = [c for c in commands if " -c " in c]
    assert len(compiled) > len(kernels)
    assert [c for c in compiled if f"{ccache} " not in c] == []


@pytest.mark.needs("readelf")
def test_library_is_tied_to_no_gpu_torch(backend, library):
    needed = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    named = [line.partition("[")[2].rstrip("]") for line in needed.splitlines() if "(NEEDED)" in line]
    assert "libtorch_cpu.so" in named
    assert [name for name in named if name.startswith(("libtorch_cuda", "libtorch_hip", "libc10_", "libcudart"))] == []
    assert any("libamdhip64" in name for name in named) == (backend == "hip")


@pytest.mark.parametrize(("name", "compiler"), [("cuda", "CMAKE_CUDA_COMPILER"), ("hip", "PCBENCH_HIP_COMPILER")])
def test_missing_compiler_is_an_error_that_says_what_to_do(name, compiler, tmp_path):
    reason = build(tmp_path, [], f"-DPCBENCH_BACKEND={name}", f"-D{compiler}=OFF")
    assert reason.startswith(f"PCBENCH_BACKEND={name}: ")
    assert "was not found; install" in reason
    assert "\n" not in reason


STREAM = """
#include "{backend}/stream.cpp"

extern "C" const char* current(int device, void** stream) {{
  static std::string message;
  try {{
    *stream = pcbench::device::current_stream(device);
    return nullptr;
  }} catch (const std::exception& error) {{
    message = error.what();
    return message.c_str();
  }}
}}
"""

TORCH = """
extern "C" int aoti_torch_get_current_cuda_stream(int device, void** stream) {
  *stream = reinterpret_cast<void*>(long{1000} + device);
  return device > 7;
}
"""

ASK = """
import ctypes, sys
glue, *torch = sys.argv[1:]
loaded = [ctypes.CDLL(library) for library in torch]
current = ctypes.CDLL(glue).current
current.restype = ctypes.c_char_p
for device in (2, 8):
    stream = ctypes.c_void_p()
    print(current(device, ctypes.byref(stream)), stream.value)
"""


@pytest.mark.needs("c++", "g++")
@pytest.mark.parametrize("name", ["cuda", "hip"])
def test_current_stream_is_that_of_the_torch_library_that_is_loaded(name, tmp_path, compile_shared):
    glue = compile_shared(STREAM.format(backend=name), tmp_path / "glue.so")
    torch = compile_shared(TORCH, tmp_path / f"libtorch_{name}.so")

    def ask(*libraries):
        done = subprocess.run([sys.executable, "-c", ASK, glue, *libraries], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    with_torch, without = ask(torch), ask()
    assert with_torch[0] == "None 1002"
    assert "torch must have one for GPU 8, got an error" in with_torch[1]
    assert all(f"libtorch_{name}.so with aoti_torch_get_current_cuda_stream must be loaded" in line for line in without)
    assert all(line.endswith(" None") for line in without)


@pytest.mark.slow
def test_a_build_from_nothing_takes_eight_minutes_at_most(backend):
    if backend not in TALLIES["clean builds"]:
        pytest.skip(f"build/gates/{backend} was there before: remove it to build from nothing")
    assert TALLIES["build seconds"][backend] <= 480
