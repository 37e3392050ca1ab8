"""What the compilers made of the GPU kernels in a library: registers, spills, shared memory, instructions, loops.

CUDA is read by cuobjdump (pip install nvidia-cuda-cuobjdump), HIP by llvm-readelf and llvm-objdump. As a program:
`gpu_code.py cuda|hip LIBRARY FILE.inc` writes the resources as C++ initialisers for ext/build_info.cpp, none where the
tools are missing.
"""

import re
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path

# what compiles, and what reads
COMPILERS = {"cuda": ("nvcc",), "hip": ("amdclang++", "clang++-19")}
PROGRAMS = {"cuda": ("cuobjdump", "c++filt"), "hip": ("llvm-readelf", "llvm-objdump", "c++filt")}
FOLDERS = (
    f"{sysconfig.get_path('platlib')}/nvidia/cu*/bin",
    *("/usr/local/cuda*/bin", "/opt/rocm/llvm/bin", "/opt/rocm/lib/llvm/bin", "/usr/lib/llvm-19/bin"),
)
BUNDLE = b"__CLANG_OFFLOAD_BUNDLE__"


@dataclass(frozen=True)
class Kernel:
    """One kernel for one architecture.

    Args:
        arch: sm_80, gfx942 and so on.
        name: without namespace and parameters.
        registers: of a thread; for AMD the vector registers, accumulation registers included.
        spill_bytes: that a thread keeps in device memory for want of registers: CUDA, what its code stores there; HIP,
            its scratch segment or its spilled registers.
        shared_bytes: static shared memory of a block; what a launch adds is not in the code.
        code: address → instruction.
    """

    arch: str
    name: str
    registers: int
    spill_bytes: int
    shared_bytes: int
    code: dict[int, str]

    def count(self, pattern: str) -> int:
        """Instructions that match."""
        return sum(bool(re.match(pattern, text)) for text in self.code.values())

    def loops(self, pattern: str) -> list[list[str]]:
        """The instructions of each loop with one that matches and no smaller such loop inside."""
        wanted = [at for at, text in self.code.items() if re.match(pattern, text)]
        backward = ((_target(at, text), at) for at, text in self.code.items())
        spans = {(to, at) for to, at in backward if to is not None and any(to <= hit <= at for hit in wanted)}
        inner = [s for s in spans if not any(s != t and s[0] <= t[0] and t[1] <= s[1] for t in spans)]
        return [[text for at, text in self.code.items() if first <= at <= last] for first, last in sorted(inner)]

    def resources(self) -> dict[str, int]:
        """The numbers by name."""
        return {name: getattr(self, name) for name in ("registers", "spill_bytes", "shared_bytes")}


def program(name: str) -> str | None:
    """A vendor's tool, where wheels and toolkits put it or in PATH, whose LLVM may be too old."""
    path = ":".join(folder for pattern in FOLDERS for folder in sorted(glob(pattern), reverse=True))
    return shutil.which(name, path=path) or shutil.which(f"{name}-19") or shutil.which(name)


def missing(backend: str) -> list[str]:
    """The programs that reading a library of `backend` needs and this machine has not."""
    return [name for name in PROGRAMS[backend] if program(name) is None]


def compiler(backend: str) -> str:
    """The compiler of a backend on this machine, with its version."""
    name = next(name for name in COMPILERS[backend] if program(name))
    return f"{name} {re.search(r'(?:V|version )([0-9.]+)', _run(name, '--version'))[1]}"


def kernels(backend: str, library: Path) -> list[Kernel]:
    """Every kernel in a library, by architecture and name."""
    found = _cuda_kernels(library) if backend == "cuda" else _hip_kernels(library)
    return sorted(found, key=lambda kernel: (kernel.arch, kernel.name))


def images(library: Path) -> list[str]:
    """What each source of a CUDA library was compiled to: "sm_80.cubin" is machine code, "sm_80.ptx" is PTX."""
    listed = _run("cuobjdump", "-lelf", library) + _run("cuobjdump", "-lptx", library)
    return re.findall(r"\.(sm_\w+\.(?:cubin|ptx))$", listed, re.M)


def _run(name: str, *arguments: object) -> str:
    command = [program(name) or name, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _cuda_kernels(library: Path) -> Iterator[Kernel]:
    usage = {}
    for arch, text in _sections(_run("cuobjdump", "-res-usage", library), r"\narch = (sm_\w+)\n"):
        for symbol, numbers in re.findall(r" Function (\S+):\n\s*(REG:.*)", text):
            usage[arch, symbol] = {key: int(n) for key, n in re.findall(r"(\w+):(\d+)", numbers)}
    names = _names({symbol for _, symbol in usage})
    for arch, text in _sections(_run("cuobjdump", "-sass", library), r"\n\tcode for (sm_\w+)\n"):
        for symbol, body in _sections(text, r"Function : (\S+)\n"):
            lines = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+ +)?([^;]+?) *;", body)
            code = {int(at, 16): instruction for at, instruction in lines}
            used = usage[arch, symbol]
            spills = sum(_store_bytes(x) for x in code.values() if x.startswith("STL"))
            yield Kernel(arch, names[symbol], used["REG"], spills, used["SHARED"], code)


def _store_bytes(instruction: str) -> int:
    width = re.match(r"STL\.(64|128)", instruction)
    return int(width[1]) // 8 if width else 4


def _hip_kernels(library: Path) -> Iterator[Kernel]:
    fields = ("vgpr_count", "private_segment_fixed_size", "vgpr_spill_count", "group_segment_fixed_size")
    for arch, binary in _code_objects(library.read_bytes()):
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(binary)
            notes, listing = _run("llvm-readelf", "--notes", file.name), _run("llvm-objdump", "-d", file.name)
        bodies = dict(_sections(listing, r"\n[0-9a-f]+ <(\w+)>:\n"))
        entries = {m[1]: entry for entry in notes.split("\n  - .") if (m := re.search(r"\.symbol: +(\w+)\.kd", entry))}
        names = _names(set(entries))
        for symbol, entry in entries.items():
            registers, scratch, spills, shared = (int(re.search(rf"\b{f}: +(\d+)", entry)[1]) for f in fields)
            lines = re.findall(r"^\t(.+?)\s*// ([0-9A-F]+):", bodies[symbol], re.M)
            code = {int(at, 16): text for text, at in lines}
            yield Kernel(arch, names[symbol], registers, max(scratch, 4 * spills), shared, code)


def _code_objects(library: bytes) -> Iterator[tuple[str, bytes]]:
    """(architecture, ELF file) of every bundle that clang has put into a library."""
    start = library.find(BUNDLE)
    while start >= 0:
        (entries,) = struct.unpack_from("<Q", library, start + len(BUNDLE))
        at = start + len(BUNDLE) + 8
        for _ in range(entries):
            offset, size, length = struct.unpack_from("<QQQ", library, at)
            target = library[at + 24 : at + 24 + length].decode()
            at += 24 + length
            if "amdgcn" in target and size:
                yield target.rpartition("--")[2], library[start + offset : start + offset + size]
        start = library.find(BUNDLE, at)


def _sections(text: str, heading: str) -> Iterator[tuple[str, str]]:
    """(what the heading's group matched, text up to the next heading)."""
    parts = re.split(heading, text)
    yield from zip(parts[1::2], parts[2::2], strict=True)


def _names(symbols: set[str]) -> dict[str, str]:
    """Symbol → readable name without namespace and parameters."""
    listed = sorted(symbols)
    names = {}
    for symbol, readable in zip(listed, _run("c++filt", *listed).splitlines(), strict=True):
        short = re.sub(r"pcbench::device::(portable::|mass::)?|\(anonymous namespace\)::|^void ", "", readable)
        names[symbol] = short[: re.search(r"\(|$", re.sub(r"<.*>", lambda m: "." * len(m[0]), short)).start()]
    return names


def _target(at: int, instruction: str) -> int | None:
    """Where a branch goes."""
    if cuda := re.match(r"BRA\S*\s+(?:\w+, *)?0x([0-9a-f]+)", instruction):
        return int(cuda[1], 16)
    if hip := re.match(r"s_c?branch\S*\s+(\d+)", instruction):
        words = int(hip[1])
        return at + 4 + 4 * (words - 65536 if words >= 32768 else words)
    return None


def main() -> None:
    backend, library, table = sys.argv[1:]
    lines = []
    try:
        for kernel in [] if missing(backend) else kernels(backend, Path(library)):
            numbers = ", ".join(f'{{"{name}", {n}}}' for name, n in kernel.resources().items())
            lines.append(f'{{"{kernel.arch} {kernel.name}", {{{numbers}}}}},\n')
    # a toolkit that prints otherwise costs the table, not the build
    except (subprocess.CalledProcessError, KeyError, TypeError, ValueError) as error:
        print(f"gpu_code.py: {library} is built without a table of kernel resources: {error!r}", file=sys.stderr)
    Path(table).write_text("".join(lines))


if __name__ == "__main__":
    main()
