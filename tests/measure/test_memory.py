import subprocess
import sys

import pytest
import torch
from builds import ROOT

from pcbench.errors import PcbenchError
from pcbench.measure import memory
from pcbench.measure.memory import Phases, is_out_of_memory

CODE = """
import torch
from pcbench.measure.memory import Phases, peak_bytes

def use(mib=64, held=16):
    a = torch.ones(mib << 20, dtype=torch.uint8)
    del a
    return torch.ones(held << 20, dtype=torch.uint8)

# Linux counts a resident set on every core and adds late
torch.set_num_threads(1)
cpu = torch.device("cpu")
torch.ones(1 << 20).sum()
print(peak_bytes(use, cpu) >> 20)
phases = Phases(cpu)
with phases("around"):
    with phases("large"):
        use(96, 1)
    with phases("small"):
        kept = use(32, 24)
with phases("after"):
    use(8, 1)
print(*(phases.bytes[name] >> 20 for name in ("around", "large", "small", "after")), phases.peak >> 20)
"""


@pytest.fixture(scope="module")
def printed():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    return [[int(word) for word in line.split()] for line in done.stdout.splitlines()]


def test_peak_bytes_is_the_highest_point_of_the_call(printed):
    assert 60 < printed[0][0] < 90


def test_phases_have_their_own_highest_points_and_what_is_around_them_the_highest(printed):
    around, large, small, after, peak = printed[1]
    assert 90 < large < 120
    assert 28 < small < 60
    # what a phase leaves behind is in those after it
    assert 28 < after < 60
    assert around == peak == large


FREED = """
import torch
from pcbench.measure.memory import peak_bytes, return_freed_memory

def block(mib):
    return torch.ones(mib << 20, dtype=torch.uint8)

torch.set_num_threads(1)
return_freed_memory()
# glibc by itself keeps smaller ones from here on
block(24)
block(16)
print(peak_bytes(lambda: block(16), torch.device("cpu")) >> 20)
"""


def test_what_was_freed_before_is_not_missing_in_a_peak():
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    assert 15 <= int(done.stdout) <= 17


def test_another_c_library_cannot_return_memory(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    with pytest.raises(PcbenchError, match="the C library glibc, got another one; run on Linux with glibc"):
        memory.return_freed_memory()


def test_phases_of_a_gpu_are_the_allocators_without_waiting(monkeypatch):
    allocated, taken, seen = iter([100, 700, 900, 300]), iter([150, 950, 800, 800]), []
    for name, call in {
        "max_memory_allocated": lambda device: next(allocated),
        "max_memory_reserved": lambda device: next(taken),
        "reset_peak_memory_stats": lambda device: seen.append("reset"),
        "synchronize": lambda *_: pytest.fail("waits for the device"),
    }.items():
        monkeypatch.setattr(torch.cuda, name, call)
    monkeypatch.setattr(memory, "_status_bytes", None)
    phases = Phases(torch.device("cuda"))
    with phases("prefill"), phases("chunks"):
        pass
    assert phases.bytes == {"prefill": 900, "chunks": 900}
    assert phases.peak == 900
    # what the allocator gave back later counts too
    assert phases.reserved == 950
    assert len(seen) == 5


WORDLESS = "an error that a torch before 2.13 does not tell"


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
            True,
        ),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("select_tokens: memory for [9] must be there, got CUDA out of memory; split the call"), True),
        (RuntimeError(f"select_tokens: memory for [9] must be there, got {WORDLESS}; split the call"), True),
        (RuntimeError("merge_states: memory for [9] must be there, got operation not permitted when capturing"), False),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_is_out_of_memory_tells_it_from_other_errors(error, is_memory):
    assert is_out_of_memory(error) is is_memory


def test_a_compiled_op_with_an_older_torch_says_what_is_out_of_memory_looks_for():
    assert f'return "{WORDLESS}";' in (ROOT / "ext/allocate.h").read_text()
