"""What a number was measured on: hardware, builds, commit."""

import hashlib
import os
import platform
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from pcbench.measure.machine.devices import torch_device
from pcbench.measure.machine.meters import open_meter
from pcbench.ops.isa import cpu_isa
from pcbench.ops.libraries import why_not
from pcbench.system.surroundings import whole_number
from pcbench.types import DeviceKind

__all__ = ["environment", "provenance", "sources_sha256"]

# whose versions a manifest has
PACKAGES = ("torch", "transformers", "numpy", "pcbench")
# whose code a method runs
OPTIONAL = ("kvpress",)
PACKAGE = Path(__file__).resolve().parents[2]
# what beside the package decides a number: the kernels, how they are built, what is run and how it is read
BESIDE = (
    "CMakeLists.txt",
    "build_backend/*.py",
    "ext/**/*",
    "pyproject.toml",
    "suites/*.toml",
    "tools/*.py",
    "tools/*.sh",
)


def provenance(device: DeviceKind) -> dict[str, Any]:
    """The fields every record carries: gpu, arch, torch, runtime, telemetry, commit, dirty."""
    source = commit()
    return {
        "gpu": None if device == "cpu" else torch.cuda.get_device_name(torch_device(device)),
        "arch": _architecture(device),
        "torch": torch.__version__,
        "runtime": {"cpu": _cpu_runtime(), "cuda": f"CUDA {torch.version.cuda}", "rocm": f"ROCm {torch.version.hip}"}[
            device
        ],
        "telemetry": open_meter(device).name,
        "commit": source["commit"],
        "dirty": source["dirty"],
    }


def environment(device: DeviceKind) -> dict[str, Any]:
    """The manifest's part about the machine."""
    return {
        **provenance(device),
        "device": device,
        "cpu": _cpu_name(),
        "cpu_isa": cpu_isa() if device == "cpu" and why_not("cpu") is None else None,
        "threads": torch.get_num_threads(),
        "ranks": whole_number("WORLD_SIZE", 1, least=1),
        "memory_bytes": psutil.virtual_memory().total,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": _versions(),
        "commit_source": commit()["from"],
        "sources_sha256": sources_sha256(),
    }


def _versions() -> dict[str, str]:
    """Package → version, without importing it; those that a run can do without only where they are installed."""
    found = {name: version(name) for name in PACKAGES}
    for name in OPTIONAL:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@cache
def commit() -> dict[str, Any]:
    """Commit and dirty flag, from git, else from PCBENCH_COMMIT / PCBENCH_DIRTY.

    Without git, PCBENCH_SOURCES may hold the `sources_sha256` of the commit, as an installation of
    the same kind prints it from a clean checkout: other sources count as dirty.
    """
    root = PACKAGE.parent
    if (root / ".git").exists():
        head = _git(root, "rev-parse", "HEAD")
        if head is not None:
            changed = _git(root, "status", "--porcelain")
            return {"commit": head, "dirty": changed != "", "from": "git"}
    named = os.environ.get("PCBENCH_COMMIT")
    if named:
        expected = os.environ.get("PCBENCH_SOURCES")
        changed_sources = expected is not None and expected != sources_sha256()
        dirty = os.environ.get("PCBENCH_DIRTY", "true").lower() != "false" or changed_sources
        source = "environment" if expected is None else "environment, held against PCBENCH_SOURCES"
        return {"commit": named, "dirty": dirty, "from": source}
    return {"commit": None, "dirty": None, "from": "none"}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=60)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def sources_sha256() -> str:
    """Of the package's code, tables and texts and, in a source tree, of what is built and run beside it; by path."""
    root = PACKAGE.parent
    paths = [path for pattern in ("*.py", "*.toml", "*.txt") for path in PACKAGE.rglob(pattern)]
    # an installed package has strangers for neighbours
    if (root / "ext/schema.cpp").is_file():
        paths += [path for pattern in BESIDE for path in root.glob(pattern) if path.is_file()]
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _architecture(device: DeviceKind) -> str:
    if device == "cpu":
        return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    properties = torch.cuda.get_device_properties(torch_device(device))
    return properties.gcnArchName if device == "rocm" else f"sm_{properties.major}{properties.minor}"


def _cpu_runtime() -> str:
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' * (threads != 1)}"


@cache
def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
