"""What the machine can do at most, measured in the run: matmul rate and copy bandwidth."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from pcbench.measure.timing import timed

__all__ = ["Ceilings", "copy_bytes_per_s", "glance_at_ceilings", "matmul_flops_per_s", "measure_ceilings"]

# a probe shorter than this meets a processor that is not yet at its rate
PROBE_S = 0.5
# and is near enough for an estimate
GLANCE_S = 0.1
MATMUL_SIDE = {"cpu": 1024, "cuda": 8192}
# beyond any cache
COPY_BYTES = {"cpu": 256 << 20, "cuda": 4 << 30}


@dataclass(frozen=True)
class Ceilings:
    """Best rates of a probe each, of random numbers in the run's dtype."""

    flops_per_s: float
    bytes_per_s: float


def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Both rates, half a second each."""
    return Ceilings(
        matmul_flops_per_s(device, dtype, PROBE_S), copy_bytes_per_s(device, PROBE_S, COPY_BYTES[device.type])
    )


def glance_at_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Both rates for an estimate, a tenth of a second each; the memory of a GPU is given back."""
    few = COPY_BYTES[device.type] // 4
    found = Ceilings(matmul_flops_per_s(device, dtype, GLANCE_S), copy_bytes_per_s(device, GLANCE_S, few))
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return found


def matmul_flops_per_s(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """2·n³ over the time of a square matmul."""
    n = MATMUL_SIDE[device.type]
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return 2 * n**3 / _least_seconds(lambda: a @ b, device, seconds)


def copy_bytes_per_s(device: torch.device, seconds: float, size: int) -> float:
    """Bytes read plus bytes written over the time of a copy."""
    source = torch.ones(size // 2, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    return 2 * source.nbytes / _least_seconds(lambda: target.copy_(source), device, seconds)


def _least_seconds(function: Callable[[], object], device: torch.device, seconds: float) -> float:
    least, end = float("inf"), time.perf_counter() + seconds
    while least == float("inf") or time.perf_counter() < end:
        least = min(least, timed(function, device)[1] / 1e3)
    return least
