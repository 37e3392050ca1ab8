"""What the op libraries ask of torch at load time, and what their kernels share with each other."""

import subprocess
from pathlib import Path

import pytest
import stable_symbols
from builds import ROOT, gpu_library, isa_flags

from pcbench import _build_info

pytestmark = [pytest.mark.needs("nm"), pytest.mark.needs("c++", "g++", "clang++")]


def nm(*options):
    return subprocess.run(["nm", *map(str, options)], capture_output=True, text=True, check=True).stdout.splitlines()


def listed():
    lines = (ROOT / "ext/stable_symbols_2_10.txt").read_text().splitlines()
    return lines[0], lines[1:]


@pytest.mark.parametrize("backend", ["cpu", "cuda", "hip"])
def test_library_asks_torch_for_stable_functions_only(backend):
    library = Path(_build_info.__file__).with_name("libpcbench_cpu.so") if backend == "cpu" else gpu_library(backend)
    # versioned symbols are those of the C and C++ run time and of HIP
    wanted = {line.split()[-1] for line in nm("-D", "--undefined-only", library) if "@" not in line}
    wanted -= {"__gmon_start__", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"}
    assert any("torch_library" in name for name in wanted)
    assert sorted(wanted - set(listed()[1])) == []


def test_list_is_what_the_headers_declare():
    first, names = listed()
    if first != stable_symbols.header():
        pytest.skip(f"the list is made from other headers: {first}")
    assert names == stable_symbols.declared(stable_symbols.compiler())


@pytest.mark.parametrize("isa", [isa for isa in _build_info.cpu_isas if isa != "portable"])
def test_kernels_of_an_instruction_set_share_no_code(isa, tmp_path):
    # a weak function is merged by the linker: another instruction set might run this one's copy
    source, object_file = ROOT / f"ext/cpu/kernels_{isa}.cpp", tmp_path / "kernels.o"
    options = ["-std=c++20", "-O3", "-DNDEBUG", "-fPIC", "-fno-math-errno", "-w", f"-I{ROOT / 'ext'}", *isa_flags(isa)]
    subprocess.run([stable_symbols.compiler(), *options, "-c", source, "-o", object_file], check=True)
    shared = [line for line in nm("-C", object_file) if " W " in line]
    assert [line for line in shared if f"pcbench::{isa}::" not in line] == []
