"""The cells that share model, workload and length, measured interleaved in one process."""

import gc
import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from pcbench import ops
from pcbench.errors import BackendUnavailable, ConfigError, ShapeError
from pcbench.harness.cells import Prepared
from pcbench.harness.decoding import decode
from pcbench.harness.peak import Peak, peak_of
from pcbench.harness.prompts import build_example, device_prompt, key_chunk
from pcbench.measure.devices import torch_device
from pcbench.measure.timing import StageClock, timed
from pcbench.measure.watch import WatchedRunner
from pcbench.models.runner import HFRunner
from pcbench.tasks import Example, load_task, score
from pcbench.types import Method, Sample, Status

__all__ = ["Group", "Lane", "is_out_of_memory"]

# tokens decoded in the parity pass, so that decoding is checked too
PARITY_STEPS = 2


@dataclass
class Lane:
    """One cell on its way to a record."""

    prepared: Prepared
    clock: StageClock
    method: Method | None = None
    status: Status = "ok"
    reason: str | None = None
    trace: str | None = None
    warnings: list[str] = field(default_factory=list)
    parity: dict[str, dict[str, float]] | None = None
    samples_ms: list[float] = field(default_factory=list)
    step_ms: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    chunk_tokens: int | None = None
    chunks: int | None = None
    kept_tokens: int | None = None
    kv_bytes: int | None = None
    kv_bytes_predicted: int | None = None
    peak: Peak = field(default_factory=lambda: Peak(None))

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


class Group:
    """Measures a group.

    Args:
        cells: its cells, one model.
        runner: the loaded model.
        say: told what is being done.
    """

    def __init__(self, cells: list[Prepared], runner: HFRunner, say: Callable[[str], None]) -> None:
        self.runner, self.say = runner, say
        self.device = runner.device
        self.lanes = [Lane(prepared, StageClock(self.device)) for prepared in cells]

    def measure(self) -> list[Lane]:
        """Every lane with its passes done, or the reason why not."""
        first = self.lanes[0].prepared
        try:
            examples = [build_example(first, self.runner.tokenizer, i) for i in range(first.cell.prompts)]
        except ConfigError as error:
            for lane in self.lanes:
                lane.end("unsupported", str(error))
            return self.lanes
        for lane in self.lanes:
            self._guarded(lane, lambda lane=lane: self._open(lane))  # type: ignore[misc]
            self._guarded(lane, lambda lane=lane: self._first_pass(lane, examples[0]))  # type: ignore[misc]
        for i, example in enumerate(examples):
            for lane in self.lanes:
                self.say(f"{lane.prepared.cell.name}: prompt {i + 1} of {len(examples)}")
                self._guarded(lane, lambda lane=lane, example=example: self._pass(lane, example))  # type: ignore[misc]
        for lane in self.lanes:
            if lane.status == "ok" and lane.prepared.cell.timed:
                self.say(f"{lane.prepared.cell.name}: peak memory")
                lane.peak = peak_of(lane.prepared, torch.get_num_threads())
                if lane.peak.reason:
                    lane.warnings.append(f"peak memory: {lane.peak.reason}")
        return self.lanes

    def _open(self, lane: Lane) -> None:
        """Makes the method on the cell's backend."""
        cell = lane.prepared.cell
        backend = "reference" if cell.backend == "torch" else cell.backend
        lane.method = lane.prepared.method(lane.prepared.config, replace(self.runner, ops=ops.backend(backend)))

    def _first_pass(self, lane: Lane, example: Example) -> None:
        """Warms up and holds every op against the float64 reference on the cell's own tensors."""
        cell = lane.prepared.cell
        self.say(f"{cell.name}: warm-up and parity")
        prompt = device_prompt(example, self.device)
        if cell.backend == "torch":
            if cell.timed:
                with torch.inference_mode():
                    lane.method.prefill(prompt, StageClock(self.device))  # type: ignore[union-attr]
            return
        watched = WatchedRunner.of(replace(self.runner, ops=ops.backend(cell.backend)), cell.seed)
        method = lane.prepared.method(lane.prepared.config, watched)
        with torch.inference_mode():
            prefilled = method.prefill(prompt, StageClock(self.device))
            decode(method, prefilled, 1 + PARITY_STEPS, (), self.device)
        lane.parity = watched.watch.worst()
        wrong = [op for op, found in lane.parity.items() if not found["err"] <= found["bound"]]
        if wrong:
            lane.end("parity_failed", f"{', '.join(wrong)} disagrees with the float64 reference")

    @torch.inference_mode()
    def _pass(self, lane: Lane, example: Example) -> None:
        """One prompt: the timed prefill, the answer, the score."""
        cell, method = lane.prepared.cell, lane.method
        if method is None:
            return
        prompt = device_prompt(example, self.device)
        prefilled, ms = timed(lambda: method.prefill(prompt, lane.clock), self.device)
        lane.clock.end_pass()
        answered = decode(method, prefilled, example.new_tokens, self.runner.spec.eos_ids, self.device)
        if cell.timed:
            lane.samples_ms.append(ms)
            lane.step_ms += answered.step_ms
        task = load_task(cell.task, "task")
        prediction = self.runner.tokenizer.decode(answered.tokens)
        trained = self.runner.spec.trained
        kept = prefilled.kept_chunks
        lane.samples.append(
            Sample(
                cell=cell.key,
                task=f"{cell.task}@{task.version}",
                id=example.id,
                prediction=prediction,
                answers=list(example.answers),
                score=score(task, prediction, example.answers) if trained else None,
                scorer=task.scorer_id if trained else None,
                prompt_sha256=example.sha256,
                kept_chunks=None if kept is None else kept.tolist(),
                chunk_scores=None if prefilled.chunk_scores is None else _finite(prefilled.chunk_scores.tolist()),
                key_chunk=key_chunk(example, prefilled.spans),
                prefill_ms=ms if cell.timed else None,
            )
        )
        lane.warnings += [w for w in prefilled.warnings if w not in lane.warnings]
        if prefilled.spans is not None:
            lane.chunks = len(prefilled.spans)
            lane.chunk_tokens = max(end - start for start, end in prefilled.spans)
        lane.kept_tokens = round(prefilled.kept_tokens())
        lane.kv_bytes, lane.kv_bytes_predicted = prefilled.kv_bytes, prefilled.kv_bytes_predicted

    def _guarded(self, lane: Lane, step: Callable[[], None]) -> None:
        """Runs a step of a lane that still goes on; what goes wrong ends the lane, not the run."""
        if lane.status != "ok":
            return
        try:
            step()
        except (BackendUnavailable, ConfigError, ShapeError) as error:
            lane.end("unsupported", str(error))
        except Exception as error:  # becomes the cell's status
            lane.trace = traceback.format_exc()
            if is_out_of_memory(error):
                lane.end("out_of_memory", str(error).splitlines()[0])
            else:
                lane.end("error", f"{type(error).__name__}: {error}".splitlines()[0])
        if lane.status != "ok":
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()


def _finite(values: list[float]) -> list[float | None]:
    """JSON has no NaN and no infinity."""
    return [x if math.isfinite(x) else None for x in values]


def is_out_of_memory(error: Exception) -> bool:
    """torch raises its own class on a GPU and a plain RuntimeError on a CPU; the compiled ops hand on its words."""
    said = any(words in str(error) for words in ("can't allocate memory", "out of memory"))
    return said or isinstance(error, torch.OutOfMemoryError | MemoryError)
