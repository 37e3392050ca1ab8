"""Every instruction set that was built is tested where the CPU has it; those that were not run here are named."""

import re
from pathlib import Path

import pytest
from builds import isa_flags

from pcbench import _build_info
from pcbench.ops.isa import cpu_isa, cpu_isas, use_cpu_isa
from pcbench.ops.libraries import load

CPUINFO = Path("/proc/cpuinfo")


def asked_for(isa):
    """What the kernels of an instruction set were compiled for: avx512f, fma and the like."""
    return {flag.removeprefix("-m") for flag in isa_flags(isa) if flag.startswith("-m") and "=" not in flag}


@pytest.mark.skipif(not CPUINFO.exists(), reason="the features of the CPU are read from /proc/cpuinfo")
@pytest.mark.parametrize("isa", [isa for isa in _build_info.cpu_isas if isa != "portable"])
def test_instruction_set_runs_where_the_cpu_has_all_that_it_was_compiled_for(isa):
    (first, *_) = re.findall(r"^flags\s*:(.*)$", CPUINFO.read_text(), re.M)
    # avx512_bf16 and amx_tile there are avx512bf16 and amx-tile to a compiler
    here = set(first.replace("_", "").split())
    missing = sorted(feature for feature in asked_for(isa) if feature.replace("-", "") not in here)
    assert len(asked_for(isa)) >= 2
    assert (isa in cpu_isas()) == (not missing)
    assert isa not in cpu_isas() or asked_for(isa) <= set(_build_info.cpu_features())
    if missing:
        pytest.skip(f"the kernels of {isa} were built and not tested: this CPU has no {', '.join(missing)}")


def test_the_best_instruction_set_is_used_where_none_was_named():
    named = cpu_isa()
    assert load("cpu").pcbench_cpu_use_isa(b"")
    assert cpu_isa() == cpu_isas()[0]
    use_cpu_isa(named)
