"""A cell's peak memory, from untimed passes, each in a process of its own."""

import signal
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from statistics import median_high
from typing import Any

import torch

from pcbench import ops
from pcbench.errors import PcbenchError
from pcbench.harness.kinds.methods.decoding import decode
from pcbench.harness.kinds.methods.prompts import build_example, device_prompt
from pcbench.harness.processes import ranks
from pcbench.harness.processes.children import ending, memory_kills, started
from pcbench.measure.machine.devices import torch_device
from pcbench.measure.machine.meters import open_meter
from pcbench.measure.machine.telemetry import Reading, driver_bytes, sampled
from pcbench.measure.memory import Phases, is_out_of_memory, return_freed_memory
from pcbench.measure.sdpa import KERNELS
from pcbench.models import load_runner
from pcbench.models.runner import HFRunner
from pcbench.ops.providers import Attending
from pcbench.types import Ops, Status

__all__ = ["Peak", "is_measurable", "peak_of", "wants_peak"]


@dataclass(frozen=True)
class Peak:
    """Bytes, or why there are none.

    Args:
        bytes: the prefill's highest point, the median over passes.
        samples: that of every pass.
        phases: medians of the highest point of each stage of the prefill and of decoding; on a GPU of loading too.
        reserved: what the GPU's allocator has taken from the driver at most.
        driver: the most memory in use on the whole GPU meanwhile, sampled.
        status: how the pass ended; reason: why there are no bytes; trace: the traceback of what went wrong.
    """

    bytes: int | None = None
    samples: list[int] | None = None
    phases: dict[str, int] | None = None
    reserved: int | None = None
    driver: int | None = None
    status: Status = "ok"
    reason: str | None = None
    trace: str | None = None


def wants_peak(prepared: Any) -> bool:
    """Whether the cell's peak memory is measured."""
    wanted = prepared.effort.rules.peak
    # the compiler's memory would be in it; an engine has its own
    if prepared.cell.compile or prepared.cell.engine:
        return False
    return wanted == "needed" or (wanted == "timed" and prepared.cell.timed)


def is_measurable(prepared: Any) -> bool:
    """Not where ranks share the cell's prompts: a child is one rank."""
    return ranks.ranks() == 1 or not ranks.uses_ranks(prepared)


def peak_of(prepared: Any) -> Peak:
    """Runs the cell's first prompt in children and reports its peak; on a GPU nothing else should be held there.

    A pass that goes wrong is the result. On a CPU a process is good for one pass: what it has freed stays resident.
    """
    if not is_measurable(prepared):
        return Peak(reason=f"not measured, it is taken on one rank and {ranks.ranks()} share every prompt")
    passes: list[Peak] = []
    while len(passes) < prepared.effort.peak_passes:
        passes += _passes_of_child(prepared)
        if passes[-1].bytes is None:
            return passes[-1]
    return _median(passes)


def _median(passes: list[Peak]) -> Peak:
    """The middle of every number that is a peak, the most of what stands beside it."""
    samples = [peak.bytes for peak in passes if peak.bytes is not None]
    phases = {name: [(peak.phases or {}).get(name, 0) for peak in passes] for name in passes[0].phases or {}}
    return Peak(
        median_high(samples),
        samples,
        {name: median_high(sizes) for name, sizes in phases.items()},
        max((peak.reserved for peak in passes if peak.reserved is not None), default=None),
        max((peak.driver for peak in passes if peak.driver is not None), default=None),
    )


def _passes_of_child(prepared: Any) -> list[Peak]:
    kills = memory_kills()
    with started(_measure, prepared) as (child, receive):
        try:
            passes: list[Peak] = receive.recv()
        except (EOFError, OSError):
            # the pipe ended, before its message or inside
            child.join()
            killed = child.exitcode == -signal.SIGKILL and memory_kills() > kills
            reason = f"the process that measured peak memory ended with {ending(child)}"
            return [Peak(status="out_of_memory" if killed else "error", reason=reason)]
        child.join()
    return passes


def _measure(prepared: Any, send: Connection) -> None:
    try:
        passes = _passes(prepared)
    except Exception as error:  # reported to the parent, which records it
        peak = Peak(reason=f"{type(error).__name__}: {error}".splitlines()[0], trace=traceback.format_exc())
        if is_out_of_memory(error):
            peak = replace(peak, status="out_of_memory")
        elif not isinstance(error, PcbenchError):
            peak = replace(peak, status="error")
        passes = [peak]
    send.send(passes)


def _passes(prepared: Any) -> list[Peak]:
    """On a GPU all of them: its allocator can forget a peak, and a model takes long to load there."""
    cell = prepared.cell
    device, gpu = torch_device(cell.device), cell.device != "cpu"
    backend = ops.backend("reference" if cell.backend == "torch" else cell.backend, prepared.attention)
    if not gpu:
        return_freed_memory()
    # loading ends with a short forward, so every weight has been touched
    runner = load_runner(cell.model, device, getattr(torch, cell.dtype), backend, quantize=cell.quantize)
    runner = replace(runner, sdpa=KERNELS.get(prepared.effort.sdpa))
    passes: list[Peak] = []
    while len(passes) < (prepared.effort.peak_passes if gpu else 1):
        before = _trials(backend)
        found = _pass(prepared, runner, device)
        # what kernels need that were tried and not taken is no part of a peak; the next pass tries none
        passes += [found] if _trials(backend) == before else []
    return passes


def _trials(backend: Ops) -> int:
    """Calls so far by which the attention of chunks was chosen."""
    return backend.trials if isinstance(backend, Attending) else 0


@torch.inference_mode()
def _pass(prepared: Any, runner: HFRunner, device: torch.device) -> Peak:
    prompt = device_prompt(build_example(prepared, runner.tokenizer, 0), device)
    method = prepared.method(prepared.config, runner)
    loaded = {}
    if device.type == "cuda":
        loaded["weights"] = torch.cuda.memory_allocated(device)
    else:
        return_freed_memory()
    phases, readings = Phases(device), list[Reading]()
    with sampled(open_meter(prepared.cell.device), readings):
        with phases("prefill"):
            prefilled = method.prefill(prompt, phases)
        peak = phases.bytes.pop("prefill")
        with phases("decode"):
            decode(method, prefilled, prompt.new_tokens, runner.spec.eos_ids, device)
    return Peak(peak, [peak], loaded | phases.bytes, phases.reserved, driver_bytes(readings))
