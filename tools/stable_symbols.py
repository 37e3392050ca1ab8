"""Lists the functions of torch's stable C interface that a library built for the target version may call.

They are what the installed torch's headers declare under the TORCH_TARGET_VERSION of ext/torch.cmake. Run without
arguments to rewrite ext/stable_symbols_2_10.txt.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "ext/stable_symbols_2_10.txt"
HEADERS = ("library.h", "tensor.h", "ops.h", "accelerator.h")
# headers that declare C functions; the others hold inline C++
DECLARING = ("/aoti_torch/c/", "/aoti_torch/generated/", "/stable/c/")


def target_version() -> str:
    """TORCH_TARGET_VERSION as the build defines it."""
    found = re.search(r"set\(TORCH_TARGET_VERSION (0x[0-9a-f]+)\)", (ROOT / "ext/torch.cmake").read_text())
    if found is None:
        raise SystemExit("ext/torch.cmake: must set TORCH_TARGET_VERSION")
    return found[1]


def compiler() -> str | None:
    """A C++ compiler of this machine."""
    return shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


def declared(cxx: str) -> list[str]:
    """Names of the C functions that the headers declare, sorted."""
    source = "\n".join(f"#include <torch/csrc/stable/{name}>" for name in HEADERS)
    include = Path(torch.__path__[0]) / "include"
    command = [cxx, "-E", "-x", "c++", "-std=c++20", f"-I{include}", f"-DTORCH_TARGET_VERSION={target_version()}", "-"]
    text = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    names, inside = set(), False
    for line in text.splitlines():
        marker = re.match(r'# \d+ "([^"]*)"', line)
        if marker:
            inside = any(part in marker[1] for part in DECLARING)
        elif inside:
            names |= set(re.findall(r"\b((?:aoti_)?(?:torch|record)_\w+)\s*\(", line))
    return sorted(names)


def header() -> str:
    """The list's first line: what it was made from."""
    return f"# torch {torch.__version__.split('+')[0]} headers, target {target_version()}; by tools/stable_symbols.py"


def main() -> None:
    cxx = compiler()
    if cxx is None:
        sys.exit("tools/stable_symbols.py: needs a C++ compiler, got none")
    LIST.write_text("\n".join([header(), *declared(cxx), ""]))


if __name__ == "__main__":
    main()
