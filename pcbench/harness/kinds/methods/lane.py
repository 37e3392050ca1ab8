"""One cell on its way to a record."""

import math
from dataclasses import dataclass, field
from typing import Any

from pcbench.harness.kinds.methods.cells import Prepared
from pcbench.harness.kinds.methods.engines.served import Served
from pcbench.harness.kinds.methods.fit import Fit
from pcbench.harness.kinds.methods.peak import Peak
from pcbench.measure.machine.devices import torch_device
from pcbench.measure.machine.telemetry import Reading
from pcbench.measure.steps import Alike, Replayed
from pcbench.measure.timing import StageClock
from pcbench.ops.providers import Attending
from pcbench.types import Method, Prefilled, Sample, Status

__all__ = ["Lane", "sizes"]


@dataclass
class Lane:
    """What has been measured of a cell so far, and how it ended."""

    prepared: Prepared
    clock: StageClock
    method: Method | None = None
    # of its backend, once it is open
    ops: Any = None
    status: Status = "ok"
    reason: str | None = None
    trace: str | None = None
    warnings: list[str] = field(default_factory=list)
    parity: dict[str, dict[str, float]] | None = None
    warmup_ms: list[float] = field(default_factory=list)
    samples_ms: list[float] = field(default_factory=list)
    # of full attention on a GPU: each kernel of SDPA that was tried
    sdpa_ms: dict[str, float] | None = None
    wall_ms: list[float] = field(default_factory=list)
    # of each timed pass, the steps of its answer
    step_ms: list[list[float]] = field(default_factory=list)
    # how its steps are replayed from graphs; None launches them
    alike: Alike | None = None
    readings: list[Reading] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    # prompt → tokens of its answer
    answers: dict[str, list[int]] = field(default_factory=dict)
    # what a serving engine took, where one is asked
    served: Served | None = None
    chunk_tokens: int | None = None
    chunks: int | None = None
    kept_tokens: int | None = None
    kv_bytes: int | None = None
    kv_bytes_predicted: int | None = None
    kv_bytes_prompt: int | None = None
    peak: Peak = field(default_factory=Peak)
    fit: Fit = field(default_factory=Fit)

    @classmethod
    def ended(cls, prepared: Prepared, status: Status, reason: str) -> "Lane":
        """A cell that never began."""
        lane = cls(prepared, StageClock(torch_device(prepared.cell.device)))
        lane.end(status, reason)
        return lane

    def end(self, status: Status, reason: str) -> None:
        """No more passes for this cell."""
        self.status, self.reason = status, reason
        self.method = None
        self.samples_ms.clear()

    def attention(self) -> dict[str, Any]:
        """Fields of its record: by what the attention of chunks was computed, and the times that chose it."""
        if not isinstance(self.ops, Attending):
            return {}
        return {"attention_kernel": self.ops.kernels, "attention_ms": self.ops.ms}

    def attention_warnings(self) -> list[str]:
        """Of the times that chose it."""
        return self.ops.warnings if isinstance(self.ops, Attending) else []

    def replayed(self, prefilled: Prefilled) -> Replayed | None:
        """Steps of an answer whose times are taken; None where they are launched."""
        if self.alike is None or self.method is None:
            return None
        return Replayed(self.method, prefilled, self.alike, self.clock)

    def add(self, sample: Sample, tokens: list[int]) -> None:
        """One prompt's result and the tokens of its answer."""
        self.samples.append(sample)
        self.answers[sample.id] = tokens
        for warning in sample.warnings:
            self.warn(warning)

    def warn(self, text: str | None) -> None:
        """Notes something once."""
        if text is not None and text not in self.warnings:
            self.warnings.append(text)


def sizes(prefilled: Prefilled) -> dict[str, Any]:
    """What a prefill kept, as fields of a sample; reading them waits for the device."""
    kept, scores, spans = prefilled.kept_chunks, prefilled.chunk_scores, prefilled.spans
    return {
        "kept_chunks": None if kept is None else kept.tolist(),
        # JSON has no NaN and no infinity
        "chunk_scores": None if scores is None else [x if math.isfinite(x) else None for x in scores.tolist()],
        "chunks": None if spans is None else len(spans),
        "chunk_tokens": None if spans is None else max(end - start for start, end in spans),
        "kept_tokens": round(prefilled.kept_tokens()),
        "kv_bytes": prefilled.kv_bytes,
        "kv_bytes_prompt": prefilled.kv_bytes_prompt,
    }
