"""What the compilers made of the GPU kernels: complete, within budget, on the matrix units, no spills that cost."""

import re
import tomllib

import pytest
from builds import give_up
from gpu_code import compiler, images
from resource_budget import budget_file

MATRIX = "HMMA|v_mfma"
# a loop of a kernel without matrix units is known by its fused multiply-adds
FUSED = r"FFMA|v_(pk_)?fma"
ATOMIC = r"ATOM|RED\.|(global|flat|buffer)_atomic|ds_(add|sub|inc|dec|min|max|and|or|xor|cmpst|wrxchg)_"
LOCAL = ("LDL", "STL", "scratch_")
# what runs 16-bit attention, each for every dtype and head dim
ATTENTION = {
    "cuda": (
        "calibrated_tiles",
        "cached_few_rows",
        "cached_many_rows",
        "decode_few_rows",
        "dual_chunk_tiles",
        "calibrated_mass_kernel",
        "window_mass_kernel",
    ),
    "hip": (
        "calibrated_attention_mfma",
        "cached_attention_mfma",
        "decode_attention_mfma",
        "calibrated_mass_kernel",
        "window_mass_kernel",
    ),
}
ARCHITECTURES = {"cuda": ["sm_80", "sm_90"], "hip": ["gfx90a", "gfx942"]}


def of(code, arch):
    return [kernel for kernel in code if kernel.arch == arch]


def test_library_has_every_architecture(code, backend):
    assert sorted({kernel.arch for kernel in code}) == ARCHITECTURES[backend]


def test_every_source_of_cuda_is_code_for_two_architectures_and_ptx_for_later_ones(code, backend, library):
    if backend == "cuda":
        found = images(library)
        assert set(found) == {"sm_80.cubin", "sm_90.cubin", "sm_80.ptx"}
        assert len({found.count(image) for image in found}) == 1


def test_atomics_are_integer_additions_in_shared_memory(code):
    other = {}
    for kernel in code:
        found = {text.split()[0] for text in kernel.code.values() if re.match(ATOMIC, text)}
        if wrong := found - {"ATOMS.ADD", "ATOMS.POPC.INC.32", "ds_add_u32"}:
            other[f"{kernel.arch} {kernel.name}"] = wrong
        assert not (found and "mass" in kernel.name), f"{kernel.arch} {kernel.name}: {found}"
    assert other == {}


@pytest.mark.parametrize("dim", [64, 96, 128])
@pytest.mark.parametrize("dtype", ["bf16", "half"])
def test_attention_runs_on_matrix_units(code, backend, dtype, dim):
    for arch in ARCHITECTURES[backend]:
        for name in ATTENTION[backend]:
            found = [kernel for kernel in of(code, arch) if kernel.name.startswith(f"{name}<{dtype}, {dim}")]
            assert found, f"{arch}: {name}<{dtype}, {dim}> is missing"
            assert [kernel.name for kernel in found if not kernel.loops(MATRIX)] == []


@pytest.mark.parametrize("dim", [64, 96, 128])
def test_calibrated_attention_multiplies_what_a_tile_asks_for(code, backend, dim):
    # CUDA: a warp has 32 rows and 64 keys, twice 16x8x16; HIP: a wave has 32 rows and 64 keys, twice 32x32x8
    name, products = ("calibrated_tiles", 2 * dim) if backend == "cuda" else ("calibrated_attention_mfma", dim // 2)
    for kernel in code:
        if kernel.name.startswith((f"{name}<bf16, {dim}", f"{name}<half, {dim}")):
            counts = [sum(bool(re.match(MATRIX, text)) for text in loop) for loop in kernel.loops(MATRIX)]
            assert max(counts) == products, f"{kernel.arch} {kernel.name}"


def test_merge_of_cached_attention_waits_where_it_may_start_early(code, backend):
    # griddepcontrol.launch_dependents and .wait: code for sm_80 has neither, nor has any GPU that runs its PTX
    found = {
        word: {(kernel.arch, kernel.name.partition("<")[0]) for kernel in code if kernel.count(word)}
        for word in ("PREEXIT", "ACQBULK")
    }
    first = ("cached_few_rows", "cached_many_rows", "decode_few_rows") if backend == "cuda" else ()
    assert found["PREEXIT"] == {("sm_90", name) for name in first}
    assert found["ACQBULK"] == {("sm_90", "cached_merge") for _ in first}
    for kernel in code:
        if kernel.arch == "sm_90" and kernel.name.startswith("cached_merge"):
            texts = list(kernel.code.values())
            touching = [i for i, text in enumerate(texts) if re.match(r"(LD|ST)G?\.", text)]
            assert texts.index("ACQBULK") < min(touching), kernel.name


def test_no_main_loop_touches_local_memory(code):
    touching = {}
    for kernel in code:
        for loop in kernel.loops(MATRIX) or kernel.loops(FUSED):
            if found := [text for text in loop if text.startswith(LOCAL)]:
                touching[f"{kernel.arch} {kernel.name}"] = found
    assert touching == {}


def test_spills_are_few(code, backend):
    limit = 223 if backend == "cuda" else 0
    assert {f"{k.arch} {k.name}": k.spill_bytes for k in code if k.spill_bytes > limit} == {}


def test_vector_registers_leave_room_for_two_waves(code, backend):
    if backend == "hip":
        assert {k.name: k.registers for k in code if k.registers > 256} == {}


def test_kernels_stay_within_their_budget(code, backend):
    file = budget_file(backend)
    budget = tomllib.loads(file.read_text())
    if budget.pop("compiler") != compiler(backend):
        give_up(f"{file.name} is made with another compiler than {compiler(backend)}; run tools/resource_budget.py")
    listed = {f"{arch} {name}": numbers for arch, kernels in budget.items() for name, numbers in kernels.items()}
    used = {f"{kernel.arch} {kernel.name}": kernel.resources() for kernel in code}
    wrong = [f"{name}: must be a kernel, got none" for name in listed.keys() - used.keys()]
    wrong += [f"{name}: must be listed, got {used[name]}" for name in used.keys() - listed.keys()]
    for name in used.keys() & listed.keys():
        larger = {what: n for what, n in used[name].items() if n > listed[name][what]}
        wrong += [f"{name}: {what} must be <= {listed[name][what]}, got {n}" for what, n in larger.items()]
    advice = f"run tools/resource_budget.py; what {file.name} loosens is a **Numbers** line of the changelog"
    assert not wrong, "\n".join([*sorted(wrong), advice])
