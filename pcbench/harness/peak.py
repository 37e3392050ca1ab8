"""A cell's peak memory, from one untimed pass in a process of its own."""

import signal
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import torch

from pcbench import ops
from pcbench.errors import PcbenchError
from pcbench.harness import ranks
from pcbench.harness.children import ending, memory_kills, started
from pcbench.harness.decoding import decode
from pcbench.harness.prompts import build_example, device_prompt
from pcbench.measure.devices import torch_device
from pcbench.measure.memory import Phases, is_out_of_memory
from pcbench.measure.meters import open_meter
from pcbench.measure.telemetry import Reading, driver_bytes, sampled
from pcbench.models import load_runner
from pcbench.types import Cell, Status

__all__ = ["Peak", "is_measurable", "peak_of", "wants_peak"]


@dataclass(frozen=True)
class Peak:
    """Bytes, or why there are none.

    Args:
        bytes: the prefill's highest point.
        phases: that of each stage of the prefill and of decoding; on a GPU of loading too.
        reserved: what the GPU's allocator has taken from the driver at most.
        driver: the most memory in use on the whole GPU meanwhile, sampled.
        status: how the pass ended; reason: why there are no bytes; trace: the traceback of what went wrong.
    """

    bytes: int | None = None
    phases: dict[str, int] | None = None
    reserved: int | None = None
    driver: int | None = None
    status: Status = "ok"
    reason: str | None = None
    trace: str | None = None


def wants_peak(cell: Cell) -> bool:
    """Whether the cell's peak memory is measured."""
    return cell.kind == "memory" or (cell.kind == "prefill" and cell.timed)


def is_measurable(prepared: Any) -> bool:
    """Not where ranks share the cell's prompts: a child is one rank."""
    return ranks.ranks() == 1 or not ranks.uses_ranks(prepared)


def peak_of(prepared: Any) -> Peak:
    """Runs the cell's first prompt in a child and reports its peak; on a GPU nothing else should be held there."""
    if not is_measurable(prepared):
        return Peak(reason=f"not measured, it is taken on one rank and {ranks.ranks()} share every prompt")
    kills = memory_kills()
    with started(_measure, prepared) as (child, receive):
        try:
            peak: Peak = receive.recv()
        except (EOFError, OSError):
            # the pipe ended, before its message or inside
            child.join()
            killed = child.exitcode == -signal.SIGKILL and memory_kills() > kills
            reason = f"the process that measured peak memory ended with {ending(child)}"
            return Peak(status="out_of_memory" if killed else "error", reason=reason)
        child.join()
    return peak


def _measure(prepared: Any, send: Connection) -> None:
    try:
        peak = _peak(prepared)
    except Exception as error:  # reported to the parent, which records it
        peak = Peak(reason=f"{type(error).__name__}: {error}".splitlines()[0], trace=traceback.format_exc())
        if is_out_of_memory(error):
            peak = replace(peak, status="out_of_memory")
        elif not isinstance(error, PcbenchError):
            peak = replace(peak, status="error")
    send.send(peak)


@torch.inference_mode()
def _peak(prepared: Any) -> Peak:
    cell = prepared.cell
    device, gpu = torch_device(cell.device), cell.device != "cpu"
    backend = ops.backend("reference" if cell.backend == "torch" else cell.backend)
    runner = load_runner(cell.model, device, getattr(torch, cell.dtype), backend)
    prompt = device_prompt(build_example(prepared, runner.tokenizer, 0), device)
    method = prepared.method(prepared.config, runner)
    loaded = {"weights": torch.cuda.memory_allocated(device)} if gpu else {}
    # loading ended with a short forward, so every weight has been touched
    phases, readings = Phases(device), list[Reading]()
    with sampled(open_meter(cell.device), readings):
        with phases("prefill"):
            prefilled = method.prefill(prompt, phases)
        peak = phases.bytes.pop("prefill")
        with phases("decode"):
            decode(method, prefilled, prompt.new_tokens, runner.spec.eos_ids, device)
    return Peak(peak, loaded | phases.bytes, phases.reserved, driver_bytes(readings))
