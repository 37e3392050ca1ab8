"""A cell's peak memory, from one untimed pass in a process of its own."""

import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from pcbench import ops
from pcbench.harness import ranks
from pcbench.harness.children import children
from pcbench.harness.decoding import decode
from pcbench.harness.prompts import build_example, device_prompt
from pcbench.measure.devices import torch_device
from pcbench.measure.memory import Phases
from pcbench.measure.meters import open_meter
from pcbench.measure.telemetry import Reading, driver_bytes, sampled
from pcbench.models import load_runner

__all__ = ["Peak", "peak_of"]


@dataclass(frozen=True)
class Peak:
    """Bytes, or why there are none.

    Args:
        bytes: the prefill's highest point.
        phases: that of each stage of the prefill and of decoding; on a GPU of loading too.
        reserved: what the GPU's allocator has taken from the driver at most.
        driver: the most memory in use on the whole GPU meanwhile, sampled.
    """

    bytes: int | None = None
    phases: dict[str, int] | None = None
    reserved: int | None = None
    driver: int | None = None
    reason: str | None = None


def peak_of(prepared: Any, threads: int) -> Peak:
    """Runs the cell's first prompt in a child and reports its peak.

    A child is one rank, so there is none where ranks share the cell's prompts.
    """
    if ranks.ranks() > 1 and ranks.uses_ranks(prepared):
        return Peak(reason=f"not measured, it is taken on one rank and {ranks.ranks()} share every prompt")
    context = children()
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(prepared, threads, send), daemon=True)
    child.start()
    send.close()
    try:
        peak: Peak = receive.recv()
    except EOFError:
        child.join()
        peak = Peak(reason=f"the process that measured peak memory ended with code {child.exitcode}")
    child.join()
    return peak


def _measure(prepared: Any, threads: int, send: Connection) -> None:
    try:
        torch.set_num_threads(threads)
        send.send(_peak(prepared))
    except Exception as error:  # reported to the parent, which records it
        traceback.print_exc()
        send.send(Peak(reason=f"{type(error).__name__}: {error}".splitlines()[0]))


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
