"""The instruction set that the CPU kernels run on: the best one of this CPU, or what PCBENCH_CPU_ISA named."""

import ctypes
from typing import Literal

from pcbench.errors import BackendUnavailable, unknown_name
from pcbench.ops.libraries import load, why_not
from pcbench.types import DeviceKind

__all__ = ["cpu_isa", "cpu_isas", "fastest_dtype", "multiplies_bfloat16", "use_cpu_isa"]


def cpu_isa() -> str:
    """The name of the instruction set in use."""
    library = _library()
    library.pcbench_cpu_isa.restype = ctypes.c_char_p
    name: bytes | None = library.pcbench_cpu_isa()
    return name.decode() if name else "none"


def cpu_isas() -> list[str]:
    """Instruction sets that the CPU kernels of this build can run on here, best first."""
    library = _library()
    library.pcbench_cpu_isas.restype = ctypes.c_char_p
    names: bytes = library.pcbench_cpu_isas()
    return names.decode().split(", ")


def fastest_dtype(device: DeviceKind) -> Literal["bfloat16", "float32"]:
    """In which models run fastest: bfloat16; on a CPU without kernels that multiply it, float32."""
    if device != "cpu":
        return "bfloat16"
    return "bfloat16" if why_not("cpu") is None and multiplies_bfloat16() else "float32"


def use_cpu_isa(name: str) -> None:
    """Chooses the instruction set of the CPU kernels for this process.

    Raises:
        ConfigError: this CPU or build has no such instruction set.
    """
    if not _library().pcbench_cpu_use_isa(name.encode()):
        raise unknown_name("ops", "instruction set", name, cpu_isas())


def multiplies_bfloat16() -> bool:
    """Whether the instruction set in use multiplies bfloat16, so that there is `torch.ops.pcbench._logits`."""
    return bool(_library().pcbench_cpu_has_logits())


# for torch.compile, which cannot trace a call of the library
multiplies_bfloat16._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _library() -> ctypes.CDLL:
    library = load("cpu")
    if isinstance(library, str):
        raise BackendUnavailable(library, {"cpu": library})
    return library
