"""Which device a run uses: a pure function of what torch was built for and what it finds."""

from dataclasses import dataclass
from typing import get_args

import torch

from pcbench.errors import BackendUnavailable, unknown_name
from pcbench.types import DeviceKind

__all__ = ["Build", "resolve_device", "torch_device"]


@dataclass(frozen=True)
class Build:
    """torch's version fields and whether it sees a GPU.

    Args:
        cuda: `torch.version.cuda`, None without CUDA.
        hip: `torch.version.hip`, None without ROCm.
        gpu: `torch.cuda.is_available()`, which means either.
    """

    cuda: str | None
    hip: str | None
    gpu: bool

    @classmethod
    def here(cls) -> "Build":
        return cls(torch.version.cuda, torch.version.hip, torch.cuda.is_available())

    def why_not(self, device: DeviceKind) -> str | None:
        """Why a device cannot be used; None when it can."""
        if device == "cpu":
            return None
        version, name = (self.cuda, "CUDA") if device == "cuda" else (self.hip, "ROCm")
        if version is None:
            other = "ROCm" if self.hip else "CUDA" if self.cuda else "the CPU"
            return f"torch is built for {other}, not for {name}"
        return None if self.gpu else f"torch is built for {name} {version} and finds no GPU"


def resolve_device(requested: str, build: Build) -> DeviceKind:
    """The device to use; only "auto" may choose.

    Args:
        requested: auto, cpu, cuda or rocm.
        build: what torch can do.

    Raises:
        ConfigError: an unknown name.
        BackendUnavailable: the device is not there; the message names those that are.
    """
    kinds = get_args(DeviceKind)
    if requested not in (*kinds, "auto"):
        raise unknown_name("--device", "device", requested, (*kinds, "auto"))
    usable = [kind for kind in ("cuda", "rocm", "cpu") if build.why_not(kind) is None]
    for kind in usable:
        if requested in ("auto", kind):
            return kind
    reasons = {kind: why for kind in kinds if (why := build.why_not(kind))}
    raise BackendUnavailable(
        f"--device: {requested} needs a {_flavour(requested)} build of torch and its GPU, got {reasons[requested]}; "
        f"available here: {', '.join(usable)}",
        reasons,
    )


def _flavour(device: str) -> str:
    return {"cuda": "CUDA", "rocm": "ROCm (HIP)"}[device]


def torch_device(kind: DeviceKind) -> torch.device:
    """torch's own name: a ROCm device is called "cuda" there."""
    return torch.device("cpu" if kind == "cpu" else "cuda")
