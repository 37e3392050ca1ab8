"""One op at one shape on its backends and against its baselines, measured interleaved in one process."""

import gc
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import torch

from pcbench import ops
from pcbench.errors import BackendUnavailable, ShapeError, first_line
from pcbench.harness.kinds import Say
from pcbench.harness.kinds.kernel.cells import PreparedKernel
from pcbench.measure.kernels.baselines import make_baseline
from pcbench.measure.kernels.cases import CHANGED, run
from pcbench.measure.kernels.draws import Draws
from pcbench.measure.kernels.timing import RepeatedCall, ReplayedCall, TimedBy, make_sampler
from pcbench.measure.machine.devices import torch_device
from pcbench.measure.machine.meters import open_meter
from pcbench.measure.machine.telemetry import Reading, others_on_gpu, sampled, throttled
from pcbench.measure.memory import is_out_of_memory, peak_bytes
from pcbench.measure.parity import Comparison
from pcbench.measure.sampling import compare_samples
from pcbench.ops.portable import portable_calls
from pcbench.types import Status

__all__ = ["KernelGroup", "KernelLane"]


@dataclass
class KernelLane:
    """One cell on its way to a record."""

    prepared: PreparedKernel
    status: Status = "ok"
    reason: str | None = None
    trace: str | None = None
    warnings: list[str] = field(default_factory=list)
    parity: dict[str, Comparison] = field(default_factory=dict)
    sampler: RepeatedCall | ReplayedCall | None = None
    timed_by: TimedBy | None = None
    samples_ms: list[float] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    peak_bytes: int | None = None

    @property
    def is_baseline(self) -> bool:
        return self.prepared.cell.backend == "torch"

    def end(self, status: Status, reason: str) -> None:
        """No more calls for this cell."""
        self.status, self.reason = status, reason
        self.sampler = None
        self.samples_ms.clear()


class KernelGroup:
    """Measures a group.

    Args:
        cells: of one op and one shape.
        say: told what is being done.
    """

    def __init__(self, cells: list[PreparedKernel], say: Say) -> None:
        # rounds last milliseconds, so what is read is of all lanes
        self.readings: list[Reading] = []
        self.lanes = [KernelLane(prepared, readings=self.readings) for prepared in cells]
        self.cell, self.op, self.shape = cells[0].cell, cells[0].op, cells[0].shape
        self.device, self.say = torch_device(self.cell.device), say
        self.meter = open_meter(self.cell.device)
        self.inputs: dict[str, Any] = {}

    @torch.inference_mode()
    def measure(self) -> list[KernelLane]:
        """Every lane with its samples, or the reason why not."""
        for step in (self._draw, self._check, self._open):
            for lane in self.lanes:
                self._guarded(lane, step)
        others = others_on_gpu(self.meter)
        keys = [lane.prepared.cell.key for lane in self.lanes]
        with sampled(self.meter, self.readings):
            for i in range(self.cell.prompts):
                self.say(f"{self.cell.workload}: round {i + 1} of {self.cell.prompts}", *keys)
                # the side that goes first changes
                for lane in self.lanes if i % 2 else reversed(self.lanes):
                    self._guarded(lane, self._sample)
        for lane in self.lanes:
            lane.sampler = None
            lane.warnings += filter(None, [others, throttled(lane.readings)])
        self._release()
        return self.lanes

    def _draw(self, lane: KernelLane) -> None:
        """The group's inputs, once."""
        if not self.inputs:
            self.say(f"{self.cell.workload}: inputs")
            seed = crc32(f"{self.cell.workload} {self.cell.seed}".encode())
            draws = Draws(seed, self.device, getattr(torch, self.cell.dtype), made_there=True)
            self.inputs = self.shape.inputs(draws)

    def _check(self, lane: KernelLane) -> None:
        """Holds the op against the float64 reference on the very inputs that are timed."""
        if lane.is_baseline:
            return
        self.say(f"{lane.prepared.cell.name}: parity", lane.prepared.cell.key)
        inputs = self.inputs | lane.prepared.changes
        got = run(ops.backend(lane.prepared.cell.backend), self.op, inputs)
        lane.parity = compare_samples(self.op, inputs, got, self.cell.seed)
        wrong = [result for result, found in lane.parity.items() if not found.ok]
        spoiled = [result for result, found in lane.parity.items() if not found.finite]
        if spoiled:
            lane.end("error", f"{self.op}: finite arguments, got NaN or infinity in {', '.join(spoiled)} of the truth")
        elif wrong:
            lane.end("parity_failed", f"{self.op}: {', '.join(wrong)} disagrees with the float64 reference")

    def _open(self, lane: KernelLane) -> None:
        """Makes the lane's call, warms it up and finds how it is timed."""
        cell = lane.prepared.cell
        self.say(f"{cell.name}: warm-up", cell.key)
        portable_before = portable_calls(cell.backend)
        call = self._stock_call(cell.method) if lane.is_baseline else self._op_call(lane.prepared)
        if self.device.type == "cuda":
            # what a call allocates beyond the inputs
            before = torch.cuda.memory_allocated(self.device)
            lane.peak_bytes = peak_bytes(call, self.device) - before
        lane.sampler = make_sampler(call, self.device)
        lane.timed_by = lane.sampler.timed_by
        lane.warnings += [*lane.sampler.warnings, *(portable_calls(cell.backend) - portable_before)]

    def _op_call(self, prepared: PreparedKernel) -> Callable[[], object]:
        """The op on the group's inputs; what it changes is a copy of the lane's own."""
        changed = CHANGED.get(self.op, ())
        inputs = {name: x.clone() if name in changed else x for name, x in self.inputs.items()} | prepared.changes
        function = getattr(ops.backend(prepared.cell.backend), self.op)
        return lambda: function(**inputs)

    def _stock_call(self, name: str) -> Callable[[], object]:
        """A baseline that has run once; torch tells in warnings why a kernel of its own does not take a shape."""
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                call = make_baseline(self.op, name, self.inputs)
                call()
            except RuntimeError as error:
                if is_out_of_memory(error) or isinstance(error, BackendUnavailable):
                    raise
                why = [str(error), *(str(warning.message).partition(" (Triggered")[0] for warning in said)]
                said_once = dict.fromkeys(text.partition("\n")[0] for text in why)
                raise BackendUnavailable(f"{name}: {' '.join(said_once)}") from error
        return call

    def _sample(self, lane: KernelLane) -> None:
        assert lane.sampler is not None, "an ok lane was opened"
        lane.samples_ms.append(lane.sampler.sample())

    def _guarded(self, lane: KernelLane, step: Callable[[KernelLane], None]) -> None:
        """Runs a step of a lane that still goes on; what goes wrong ends the lane, not the run."""
        if lane.status != "ok":
            return
        try:
            step(lane)
        except (BackendUnavailable, ShapeError) as error:
            lane.end("unsupported", str(error))
        except Exception as error:  # becomes the cell's status
            lane.trace = traceback.format_exc()
            if is_out_of_memory(error):
                lane.end("out_of_memory", first_line(error))
            else:
                lane.end("error", f"{type(error).__name__}: {error}".splitlines()[0])
        if lane.status != "ok":
            self._release()

    def _release(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
