"""What groups of methods share: the loaded model."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from pcbench import ops
from pcbench.errors import NotFinite, first_line
from pcbench.harness.kinds import Measured, Say
from pcbench.harness.kinds.methods.cells import Prepared
from pcbench.harness.kinds.methods.engines.serving import Read, serve
from pcbench.harness.kinds.methods.group import Group
from pcbench.harness.kinds.methods.lane import Lane
from pcbench.harness.kinds.methods.peak import is_measurable, peak_of, wants_peak
from pcbench.harness.kinds.methods.summary import summarise
from pcbench.measure.compiled import compile_pieces
from pcbench.measure.kernels.timing import free_what_is_flushed
from pcbench.measure.machine.devices import torch_device
from pcbench.measure.memory import is_out_of_memory
from pcbench.measure.timing import StageClock
from pcbench.models import load_runner
from pcbench.models.layers.quantize import weight_bytes
from pcbench.models.runner import HFRunner
from pcbench.types import ModelSpec, Status

__all__ = ["ModelSession", "lost_by"]


def lost_by(error: Exception) -> Status:
    """The status of cells whose model could not be loaded; raises what stops the whole run."""
    if isinstance(error, NotFinite):
        return "error"
    if is_out_of_memory(error):
        return "out_of_memory"
    raise error


@dataclass
class ModelSession:
    """The model's numbers, the fields all records share, the model once it is loaded, and what compiling it took.

    Args:
        uncompiled: a warning of what `suite.compile` leaves as it is.
        quantize: the scheme of the loaded model's weights.
        weights: fields of records that say what the weights of the last group are.
    """

    spec: ModelSpec
    shared: dict[str, Any]
    loaded: HFRunner | None = None
    compile_ms: float | None = None
    uncompiled: str | None = None
    quantize: str | None = None
    weights: dict[str, Any] = field(default_factory=dict)

    def fresh(self) -> "ModelSession":
        return ModelSession(self.spec, self.shared)

    def measure(self, cells: list[Prepared], repro: str, say: Say) -> Measured:
        """Measures one group of methods."""
        self.weights = {}
        here = [prepared for prepared in cells if not prepared.missing and not prepared.cell.engine]
        measured = iter(self._lanes(here, say) if here else [])
        lanes = [self._begun(p) if p.missing or p.cell.engine else next(measured) for p in cells]
        self._serve(lanes, say)
        self._take_peaks(lanes, say)
        return Measured(
            summarise(lanes, self.spec, self.shared | self.weights | {"compile_ms": self.compile_ms}, repro),
            [sample for lane in lanes for sample in lane.samples],
            {lane.prepared.cell.key: lane.trace for lane in lanes if lane.trace},
        )

    def _begun(self, prepared: Prepared) -> Lane:
        """A cell that pcbench computes nothing of: it misses something, or a serving engine computes it."""
        if prepared.missing:
            return Lane.ended(prepared, "data_missing", prepared.missing)
        return Lane(prepared, StageClock(torch_device(prepared.cell.device)))

    def _lanes(self, cells: list[Prepared], say: Say) -> list[Lane]:
        """Cells that miss nothing."""
        say("loading the model")
        try:
            lanes = Group(cells, self.runner(cells[0]), say).measure()
        except Exception as error:
            status = lost_by(error)
            return [Lane.ended(prepared, status, first_line(error)) for prepared in cells]
        for lane in lanes:
            lane.warn(self.uncompiled)
        return lanes

    def _take_peaks(self, lanes: list[Lane], say: Say) -> None:
        """Peak memory of every cell that has one, while this process holds no model: it would be in it."""
        wanted = [lane for lane in lanes if lane.status == "ok" and wants_peak(lane.prepared)]
        if any(is_measurable(lane.prepared) for lane in wanted):
            self._let_go(lanes)
        for lane in wanted:
            say(f"{lane.prepared.cell.name}: peak memory", lane.prepared.cell.key)
            lane.peak = peak_of(lane.prepared)
            lane.trace = lane.peak.trace
            if lane.prepared.effort.rules.peak == "needed" and lane.peak.status != "ok":
                lane.end(lane.peak.status, f"peak memory: {lane.peak.reason}")
            elif lane.peak.reason:
                lane.warn(f"peak memory: {lane.peak.reason}")

    def _serve(self, lanes: list[Lane], say: Say) -> None:
        """Asks serving engines, once nothing else is timed."""
        read = self.loaded and Read.of(self.loaded)
        for lane in lanes:
            cell = lane.prepared.cell
            if cell.engine and lane.status == "ok":
                if cell.backend == "vllm":
                    # it takes what is free of the GPU
                    self._let_go(lanes)
                serve(lane, next(x for x in lanes if x.prepared.cell.is_full), read, say)

    def _let_go(self, lanes: Sequence[Lane] = ()) -> None:
        """This process holds no model any more, nor do the methods of these."""
        self.loaded = None
        for lane in lanes:
            lane.method = None
        free_what_is_flushed()
        gc.collect()
        torch.cuda.empty_cache()

    def lost(self, cells: list[Prepared], repro: str, status: Status, reason: str) -> Measured:
        """Every cell with this status."""
        lanes = [Lane.ended(prepared, status, reason) for prepared in cells]
        return Measured(summarise(lanes, self.spec, self.shared, repro), [])

    def runner(self, prepared: Prepared) -> HFRunner:
        """The cells' model on their device, loaded once."""
        cell = prepared.cell
        if self.loaded is not None and self.quantize != cell.quantize:
            self._let_go()
        if self.loaded is None:
            reference = ops.backend("reference")
            where, dtype = torch_device(cell.device), getattr(torch, cell.dtype)
            device_map = prepared.effort.device_map
            like: Any = {"device_map": device_map, "quantize": cell.quantize}
            self.loaded, self.quantize = load_runner(cell.model, where, dtype, reference, **like), cell.quantize
            if cell.compile:
                # once more where the model was let go of, which finds what was compiled
                compiled = compile_pieces(self.loaded)
                self.loaded, self.uncompiled = compiled.runner, compiled.warning
                self.compile_ms = (self.compile_ms or 0.0) + compiled.ms
        quantization = self.loaded.quantization
        self.weights = {"weights_bytes": weight_bytes(self.loaded.model), "quantization": quantization}
        return self.loaded
