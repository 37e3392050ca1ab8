"""A cell's peak memory, from one untimed pass in a process of its own."""

import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from pcbench import ops
from pcbench.harness.children import children
from pcbench.harness.prompts import build_example, device_prompt
from pcbench.measure.devices import torch_device
from pcbench.measure.memory import peak_bytes
from pcbench.measure.timing import StageClock
from pcbench.models import load_runner

__all__ = ["Peak", "peak_of"]


@dataclass(frozen=True)
class Peak:
    """Bytes, or why there are none."""

    bytes: int | None
    reason: str | None = None


def peak_of(prepared: Any, threads: int) -> Peak:
    """Runs the cell's first prompt in a child and reports its peak."""
    context = children()
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(prepared, threads, send), daemon=True)
    child.start()
    send.close()
    try:
        peak: Peak = receive.recv()
    except EOFError:
        child.join()
        peak = Peak(None, f"the process that measured peak memory ended with code {child.exitcode}")
    child.join()
    return peak


def _measure(prepared: Any, threads: int, send: Connection) -> None:
    try:
        torch.set_num_threads(threads)
        cell = prepared.cell
        device = torch_device(cell.device)
        backend = ops.backend("reference" if cell.backend == "torch" else cell.backend)
        runner = load_runner(cell.model, device, getattr(torch, cell.dtype), backend)
        prompt = device_prompt(build_example(prepared, runner.tokenizer, 0), device)
        method = prepared.method(prepared.config, runner)
        with torch.inference_mode():
            # loading ended with a short forward, so every weight has been touched
            send.send(Peak(peak_bytes(lambda: method.prefill(prompt, StageClock(device)), device)))
    except Exception as error:  # reported to the parent, which records it
        traceback.print_exc()
        send.send(Peak(None, f"{type(error).__name__}: {error}".splitlines()[0]))
