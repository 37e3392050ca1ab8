"""Whether the GPU that torch runs on is one that a library has code for."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

__all__ = ["TorchGpu"]


@dataclass(frozen=True)
class TorchGpu:
    """What torch was built for, and its current GPU.

    Args:
        flavour: cuda, hip or cpu.
        name: of the GPU; None where torch finds none.
        arch: sm_90 or gfx942, say.
    """

    flavour: str
    name: str | None = None
    arch: str = ""

    @classmethod
    def here(cls) -> "TorchGpu":
        """Torch's current GPU."""
        if not torch.cuda.is_available():
            return cls(_flavour())
        return cls.of(torch.device("cuda", torch.cuda.current_device()))

    @classmethod
    def of(cls, device: torch.device) -> "TorchGpu":
        """A GPU that torch has."""
        found = torch.cuda.get_device_properties(device)
        # AMD's name of an architecture goes on with its features
        arch = found.gcnArchName.partition(":")[0] if _flavour() == "hip" else f"sm_{found.major}{found.minor}"
        return cls(_flavour(), found.name, arch)

    def why_not(self, backend: str, code: Sequence[str]) -> str | None:
        """Why kernels cannot run here; None when they can.

        Args:
            backend: cuda or hip.
            code: what the library holds: sm_N and gfxN are machine code, compute_N is PTX for sm_N and later; of sm_Na
                and compute_Na for that GPU alone, of sm_Nf and compute_Nf for later ones of its generation.
        """
        if self.flavour != backend:
            return f"{backend} kernels need a torch that is built for {backend}, got one for {self.flavour}"
        if self.name is None:
            return f"{backend} kernels need a GPU, and torch finds none"
        if not any(_runs(compiled, self.arch) for compiled in code):
            built = [_named(c) for c in code]
            return f"this build has code for {', '.join(built)}, got {self.name}, which is {self.arch}"
        return None


def _named(compiled: str) -> str:
    """`PTX for sm_80 and later`, `sm_90a`."""
    later = compiled.startswith("compute_") and compiled[-1].isdigit()
    return compiled.replace("compute_", "PTX for sm_") + (" and later" if later else "")


def _flavour() -> str:
    return "hip" if torch.version.hip else "cuda" if torch.version.cuda else "cpu"


def _runs(compiled: str, arch: str) -> bool:
    """Machine code of NVIDIA runs on later GPUs of the same generation, PTX on all later ones.

    Source: CUDA C++ Programming Guide, architecture-specific (a) and family-specific (f) targets.
    """
    if arch.startswith("gfx"):
        return compiled == arch
    kind, _, target = compiled.partition("_")
    number, has = int(target.rstrip("af")), int(arch.partition("_")[2])
    if target.endswith("a"):
        return has == number
    within = kind == "sm" or target.endswith("f")
    return has >= number and (not within or has // 10 == number // 10)
