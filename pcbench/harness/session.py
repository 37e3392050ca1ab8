"""What groups of one process share: the loaded model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from pcbench import ops
from pcbench.harness.cells import Prepared
from pcbench.harness.group import Group, Lane, is_out_of_memory
from pcbench.harness.summary import summarise
from pcbench.measure.devices import torch_device
from pcbench.models import load_runner
from pcbench.models.runner import HFRunner
from pcbench.types import ModelSpec, Record, Sample

__all__ = ["Measured", "Session", "measure_group"]


@dataclass
class Measured:
    """A finished group; `traces` are the tracebacks of cells that ended in an error."""

    records: list[Record]
    samples: list[Sample]
    traces: dict[str, str] = field(default_factory=dict)


@dataclass
class Session:
    """The model's numbers, the fields all records share, and the model once it is loaded."""

    spec: ModelSpec
    shared: dict[str, Any]
    loaded: HFRunner | None = None

    def runner(self, prepared: Prepared) -> HFRunner:
        """The cells' model on their device, loaded once."""
        cell = prepared.cell
        if self.loaded is None:
            reference = ops.backend("reference")
            self.loaded = load_runner(cell.model, torch_device(cell.device), getattr(torch, cell.dtype), reference)
        return self.loaded


def measure_group(session: Session, cells: list[Prepared], repro: str, say: Callable[[str], None]) -> Measured:
    """Measures one group in this process."""
    say("loading the model")
    try:
        lanes = Group(cells, session.runner(cells[0]), say).measure()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        lanes = [Lane.ended(prepared, "out_of_memory", str(error).splitlines()[0]) for prepared in cells]
    return Measured(
        summarise(lanes, session.spec, session.shared, repro),
        [sample for lane in lanes for sample in lane.samples],
        {lane.prepared.cell.key: lane.trace for lane in lanes if lane.trace},
    )
