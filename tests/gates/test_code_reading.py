"""The reader of machine code sees what the gates ask for."""

import subprocess

import pytest
from builds import give_up
from gpu_code import Kernel, kernels, missing, program

LOOPS = {
    0x00: "MOV R1, R2",
    0x10: "HMMA.16816.F32.BF16 R4, R8, R12, R4",
    0x20: "LDL R3, [R1]",
    0x30: "BRA 0x20",
    0x40: "BRA 0x10",
    0x50: "STL.64 [R1], R2",
    0x60: "BRA 0x0",
    0x70: "BRA 0x90",
}

SPILLING = """
__global__ void spilling(int* data, int n) {
  int kept[64];
  for (int i = 0; i < 64; ++i) kept[i] = data[i];
  float sum = 0;
  for (int i = 0; i < n; ++i) sum = fmaf(sum, 1.5f, float(kept[data[i] & 63]));
  data[0] = int(sum);
}
__global__ void lean(float* data) { data[threadIdx.x] += 1; }
"""


def test_loops_are_the_smallest_that_match():
    kernel = Kernel("sm_80", "made", 0, 0, 0, LOOPS)
    assert [loop[0] for loop in kernel.loops("HMMA")] == [LOOPS[0x10]]
    assert [len(loop) for loop in kernel.loops("HMMA")] == [4]
    assert [len(loop) for loop in kernel.loops("LDL")] == [2]
    assert [len(loop) for loop in kernel.loops("STL")] == [7]
    assert kernel.loops("FFMA") == []


@pytest.mark.needs("nvcc")
def test_local_memory_in_a_cuda_loop_is_seen(tmp_path):
    if missing("cuda"):
        give_up(f"needs {' and '.join(missing('cuda'))} on this machine")
    source, built = tmp_path / "made.cu", tmp_path / "made.o"
    source.write_text(SPILLING)
    subprocess.run([program("nvcc"), "-arch=sm_80", "-c", source, "-o", built], check=True)
    lean, spilling = kernels("cuda", built)
    assert (lean.name, lean.spill_bytes, lean.loops("FFMA")) == ("lean", 0, [])
    assert spilling.spill_bytes == 256
    assert any(text.startswith("LDL") for loop in spilling.loops("FFMA") for text in loop)
