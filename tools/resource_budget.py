"""Rewrites tests/gates/budget_cuda.toml and budget_hip.toml from the libraries that the gates have built.

    tools/resource_budget.py [cuda] [hip]

A number that grows is a **Numbers** line of the changelog.
"""

import sys
from itertools import groupby
from pathlib import Path

from gpu_code import Kernel, compiler, kernels, missing

__all__ = ["budget_file"]

ROOT = Path(__file__).resolve().parents[1]


def budget_file(backend: str) -> Path:
    """Where the budget of a backend is."""
    return ROOT / f"tests/gates/budget_{backend}.toml"


def budget(backend: str, listed: list[Kernel]) -> str:
    """The text of a budget file."""
    lines = [
        "# What each kernel may use; by tools/resource_budget.py. Registers of a thread, bytes that it spills to its",
        "# local memory, static shared bytes of a block (on sm_90 with the KiB that the hardware keeps for itself).",
        f'compiler = "{compiler(backend)}"',
    ]
    for arch, group in groupby(listed, key=lambda kernel: kernel.arch):
        lines += ["", f"[{arch}]"]
        for kernel in group:
            numbers = ", ".join(f"{name} = {n}" for name, n in kernel.resources().items())
            lines.append(f'"{kernel.name}" = {{ {numbers} }}')
    return "\n".join([*lines, ""])


def main() -> None:
    for backend in sys.argv[1:] or ("cuda", "hip"):
        library = ROOT / f"build/gates/{backend}/ext/libpcbench_{backend}.so"
        if not library.exists():
            sys.exit(f"{library}: must be built, got none; run `python -m pytest tests/gates`")
        if missing(backend):
            sys.exit(f"resource_budget.py: needs {' and '.join(missing(backend))}, got none; install them")
        budget_file(backend).write_text(budget(backend, kernels(backend, library)))


if __name__ == "__main__":
    main()
