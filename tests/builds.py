"""CMake builds that tests ask for, kept under build/ so that only what changed is compiled again."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest
from tallies import TALLIES

__all__ = ["ROOT", "alone_in", "build", "give_up", "gpu_library", "isa_flags", "tool"]

ROOT = Path(__file__).resolve().parents[1]


def give_up(reason: str) -> NoReturn:
    """Skips a gate that cannot run on this machine; in CI, where every gate must run, it fails."""
    give_up = pytest.fail if os.environ.get("PCBENCH_REQUIRE_GATES") else pytest.skip
    give_up(reason)


def build(folder: Path, targets: list[str], *options: str) -> str | None:
    """Configures and builds; returns what CMake says of a compiler that is missing, None when all was built.

    Args:
        folder: of the build.
        targets: what to build.
        options: of CMake.
    """
    cmake = tool("cmake")
    paths = [f"-DPython_EXECUTABLE={sys.executable}", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"]
    configured = _run(cmake, "-S", ROOT, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", *options, *paths)
    message = " ".join(configured.stderr.split())
    if "PCBENCH_BACKEND=" in message:
        return message[message.index("PCBENCH_BACKEND=") :].partition(" -- ")[0]
    assert configured.returncode == 0, configured.stdout[-4000:] + configured.stderr[-4000:]
    built = _run(cmake, "--build", folder, "--target", *targets)
    assert built.returncode == 0, built.stdout[-4000:] + built.stderr[-4000:]
    return None


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """No other process that runs tests builds in the folder until the end of a `with`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@cache
def gpu_library(backend: str) -> Path:
    """The library of a GPU backend (cuda, hip), compiled for every architecture and linked with this torch."""
    folder = ROOT / "build/gates" / backend
    with alone_in(folder):
        start, clean = time.monotonic(), not folder.exists()
        reason = build(folder, [f"pcbench_{backend}"], f"-DPCBENCH_BACKEND={backend}")
        # little where nothing had changed
        TALLIES["build seconds"][backend] += time.monotonic() - start
    if reason:
        give_up(reason)
    TALLIES["clean builds"].update([backend] if clean else [])
    return folder / f"ext/libpcbench_{backend}.so"


def isa_flags(isa: str) -> list[str]:
    """What the CPU's kernels of an instruction set are compiled with."""
    (words,) = re.findall(rf"^set\(flags_{isa} (.*)\)$", (ROOT / "ext/CMakeLists.txt").read_text(), re.M)
    others = re.findall(r"\${flags_(\w+)}", words)
    return [flag for other in others for flag in isa_flags(other)] + [x for x in words.split() if x.startswith("-")]


def tool(name: str) -> str:
    """A program of this environment, else of the path."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"pip install {name}"
    return found


def _run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(x) for x in command], capture_output=True, text=True, check=False)
