"""The op tests on CPU kernels built with AddressSanitizer and UndefinedBehaviorSanitizer: `make test-sanitized`.

A finding is printed and ends the process of its test, and so the run fails. Scratch memory is one tensor to a call: a
step from one of its parts into the next is no finding.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from builds import ROOT, alone_in, build

__all__ = ["library_folder", "main"]

FOLDER = ROOT / "build/sanitized"
SANITIZE = "-fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all -fno-omit-frame-pointer"
# for conftest.py: where libpcbench_cpu.so lies, instead of beside the package's own modules
VARIABLE = "PCBENCH_TEST_LIBRARIES"


def main(arguments: list[str]) -> int:
    """Builds and runs the tests of the CPU's ops; returns 0 where they pass and nothing is found.

    Args:
        arguments: of pytest, besides those that choose the tests.
    """
    compiler = shutil.which("g++")
    if not compiler:
        sys.exit("test-sanitized: g++ must be on the path, got none; install it")
    with alone_in(FOLDER):
        options = [f"-DCMAKE_CXX_COMPILER={compiler}", f"-DCMAKE_CXX_FLAGS={SANITIZE}"]
        build(FOLDER, ["pcbench_cpu"], "-DPCBENCH_BACKEND=cpu", "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -g1", *options)
        _require_sanitizers(FOLDER / "ext/libpcbench_cpu.so")
        # what a process prints while it ends must not lie in pytest's hands
        options = ["-q", "-m", "not slow", "--capture=sys", f"--ignore-glob={ROOT}/tests/ops/test_emulat*"]
        command = [sys.executable, "-m", "pytest", ROOT / "tests/ops", *options, *arguments]
        return subprocess.run(command, cwd=ROOT, env=_environment(compiler), check=False).returncode


def library_folder(installed: str) -> Path:
    """Where the libraries under test lie.

    Args:
        installed: the path of `pcbench._build_info`.
    """
    return Path(os.environ.get(VARIABLE) or Path(installed).parent)


def _require_sanitizers(library: Path) -> None:
    code = library.read_bytes()
    missing = [name for name in (b"__asan_report_", b"__ubsan_handle_") if name not in code]
    if missing:
        sys.exit(f"test-sanitized: {library} must call {missing}, got none; remove {FOLDER} and build anew")


def _environment(compiler: str) -> dict[str, str]:
    # the sanitizer comes first in a process, and looks for the C++ library, which throws, when it starts
    preloaded = [_path_of(compiler, name) for name in ("libasan.so", "libstdc++.so")]
    return os.environ | {
        VARIABLE: str(FOLDER / "ext"),
        "LD_PRELOAD": " ".join(preloaded),
        # Python keeps memory to its end; tests ask for more than there is
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def _path_of(compiler: str, name: str) -> str:
    asked = [compiler, f"-print-file-name={name}"]
    path = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(path).is_absolute():
        sys.exit(f"test-sanitized: {name} must come with {compiler}, got none; install the one of this g++")
    return path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
