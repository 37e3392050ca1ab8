"""The cells that share model, workload and length, measured interleaved in one process."""

import gc
import re
import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch

from pcbench import ops
from pcbench.errors import (
    BackendUnavailable,
    BadData,
    ConfigError,
    DataMissing,
    NotFinite,
    RankLost,
    ShapeError,
    first_line,
)
from pcbench.harness.kinds import Say
from pcbench.harness.kinds.methods.cells import Prepared
from pcbench.harness.kinds.methods.decoding import Answered, decode, replaying
from pcbench.harness.kinds.methods.finite import not_finite, require_finite
from pcbench.harness.kinds.methods.fit import fit
from pcbench.harness.kinds.methods.lane import Lane, sizes
from pcbench.harness.kinds.methods.prompts import build_example, device_prompt, key_chunk, key_depth
from pcbench.measure.compiled import compiled_graphs, late_graphs
from pcbench.measure.kernels.timing import flush_caches
from pcbench.measure.machine.meters import open_meter
from pcbench.measure.machine.telemetry import others_on_gpu, sampled, throttled
from pcbench.measure.memory import is_out_of_memory
from pcbench.measure.sdpa import KERNELS, fastest, is_tried, trials
from pcbench.measure.steps import NotCaptured, are_replayed
from pcbench.measure.timing import StageClock, clocked, is_steady, warm_up
from pcbench.measure.watch import WatchedRunner
from pcbench.models.runner import HFRunner
from pcbench.ops.portable import portable_calls
from pcbench.ops.providers import Attending
from pcbench.statistics import settled
from pcbench.tasks import Example, score
from pcbench.tasks.base import task_id
from pcbench.tasks.thoughts import RULE, opens_thought, without_thoughts
from pcbench.types import Cell, Method, Prefilled, Prompt, Sample, no_stages

__all__ = ["Group"]

T = TypeVar("T")

# tokens decoded in the parity pass, so that decoding is checked too: fewer, and the largest error of so few rows beside
# twice the reference's own is a matter of luck; where an answer has no room for them, two
PARITY_STEPS, FEWEST_STEPS = 16, 2
ANY_LENGTH = "budget_bytes holds the keys and values of a prompt of any length"
UNCHECKED = "no op was held against the reference: no speed-up is given"


class Group:
    """Measures a group.

    Args:
        cells: its cells, one model.
        runner: the loaded model.
        say: told what is being done.
    """

    def __init__(self, cells: list[Prepared], runner: HFRunner, say: Say) -> None:
        self.runner, self.say = runner, say
        self.device = runner.device
        self.meter = open_meter(cells[0].cell.device)
        self.lanes = [Lane(prepared, StageClock(self.device)) for prepared in cells]

    def measure(self) -> list[Lane]:
        """Every lane with its passes done, or the reason why not."""
        first = self.lanes[0].prepared
        # those that the stop rule cannot do without; building one between two passes leaves the caches cold
        examples = self._built(range(first.effort.repeats))
        if not examples:
            return self.lanes
        self._choose_sdpa(examples[0])
        others = others_on_gpu(self.meter)
        for lane in self.lanes:
            lane.warn(others)
            self._guarded(lane, lambda lane=lane: self._open(lane))  # type: ignore[misc]
            self._guarded(lane, lambda lane=lane: self._first_pass(lane, examples[0]))  # type: ignore[misc]
        timed = first.cell.timed
        for i in range(first.cell.prompts):
            timed = timed and i < first.cell.repeats
            if first.cell.timed and not timed and i >= first.effort.prompts:
                break
            example = next(iter(examples[i : i + 1] or self._built([i])), None)
            if example is None:
                break
            for lane in self.lanes:
                cell = lane.prepared.cell
                self.say(f"{cell.name}: prompt {i + 1} of {cell.prompts}", cell.key)
                self._guarded(lane, partial(self._pass, lane, example, timed))
            timed = timed and not self._settled(i + 1)
        for lane in self.lanes:
            lane.warn(throttled(lane.readings))
            self._guarded(lane, lambda lane=lane: self._fit(lane, examples[0]))  # type: ignore[misc]
        return self.lanes

    def _built(self, indices: Iterable[int]) -> list[Example]:
        """Prompts of the group; none, and every lane ended, where one cannot be built."""
        first = self.lanes[0].prepared
        try:
            return [build_example(first, self.runner.tokenizer, i) for i in indices]
        except (ConfigError, DataMissing) as error:
            for lane in self.lanes:
                if lane.status == "ok":
                    self._end(lane, error)
        return []

    def _choose_sdpa(self, example: Example) -> None:
        """On a GPU stock code prefills by the kernel of SDPA that is the fastest on the group's first prompt."""
        full = next((lane for lane in self.lanes if lane.prepared.cell.is_full), None)
        if full is not None and full.prepared.cell.timed and is_tried(self.device):
            self._guarded(full, lambda: self._try_kernels(full, example))

    def _try_kernels(self, full: Lane, example: Example) -> None:
        prepared, prompt = full.prepared, device_prompt(example, self.device)

        def once(kernel: Any) -> float:
            method = prepared.method(prepared.config, replace(self.runner, sdpa=kernel))
            return clocked(lambda: method.prefill(prompt, no_stages), self.device)[1].ms

        self.say(f"{prepared.cell.name}: kernels of SDPA")
        found = trials(once, lambda kernel, why: full.warn(f"SDPA's {kernel} kernel gave no time: {why}"))
        full.sdpa_ms = found or None
        for lane in self.lanes:
            effort = replace(lane.prepared.effort, sdpa=fastest(found))
            lane.prepared = replace(lane.prepared, effort=effort)

    def _settled(self, passes: int) -> bool:
        """Whether the suite's stop rule says that more passes would tell nothing new."""
        effort = self.lanes[0].prepared.effort
        times = [lane.samples_ms for lane in self.lanes if lane.samples_ms]
        if effort.relative_error is None or passes < effort.repeats or not times:
            return False
        return settled(times, effort.relative_error)

    def _open(self, lane: Lane) -> None:
        """Makes the method on the cell's backend."""
        cell = lane.prepared.cell
        backend = "reference" if cell.backend == "torch" else cell.backend
        kernel = KERNELS.get(lane.prepared.effort.sdpa or "")
        lane.ops = ops.backend(backend, lane.prepared.attention)
        runner = replace(self.runner, ops=lane.ops, sdpa=kernel)
        lane.method = lane.prepared.method(lane.prepared.config, runner)

    @torch.inference_mode()
    def _first_pass(self, lane: Lane, example: Example) -> None:
        """Holds every op against the float64 reference on the cell's own tensors, and warms up."""
        cell, passes = lane.prepared.cell, lane.prepared.effort.warmup_up_to
        self.say(f"{cell.name}: warm-up and parity", cell.key)
        prompt = device_prompt(example, self.device)
        if cell.backend != "torch":
            # where one pass is asked for, this is it
            passes -= passes == 1
            self._check_ops(lane, prompt)
        if cell.timed and lane.method is not None:
            if are_replayed(self.device):
                self._check_steps(lane, lane.method, prompt)
            prefill, aside = lane.method.prefill, StageClock(self.device)
            lane.warmup_ms = warm_up(lambda: clocked(lambda: prefill(prompt, aside), self.device)[1].ms, passes)
            if passes > 1 and not is_steady(lane.warmup_ms):
                lane.warn(f"not steady after {len(lane.warmup_ms)} passes of warm-up")
            if isinstance(lane.ops, Attending):
                # no timed pass measures kernels
                lane.ops.settle()

    def _check_steps(self, lane: Lane, method: Method, prompt: Prompt) -> None:
        """Whether an answer's steps can be timed without the launches of their kernels."""
        try:
            lane.alike = replaying(method, prompt, self.device, stock=lane.prepared.cell.backend == "torch")
        except NotCaptured as error:
            lane.warn(f"decoding is timed with its launches, no graph: {error}")

    def _check_ops(self, lane: Lane, prompt: Prompt) -> None:
        """Parity on the first prompt and a few steps behind it; errors as of `_held`."""
        cell = lane.prepared.cell
        steps = min(PARITY_STEPS, max(FEWEST_STEPS, prompt.new_tokens - 1))

        def once(runner: Any) -> tuple[Prefilled, Answered]:
            method = lane.prepared.method(lane.prepared.config, runner)
            prefilled = method.prefill(prompt, no_stages)
            return prefilled, decode(method, prefilled, 1 + steps, (), self.device)

        prefilled, answered = self._held(lane, once)
        if lane.status == "ok":
            require_finite(cell.name, self.runner, prefilled, answered, lambda: once(self._on_ops(lane)))

    def _on_ops(self, lane: Lane) -> HFRunner:
        """The model on the backend of a cell."""
        return replace(self.runner, ops=lane.ops)

    def _held(self, lane: Lane, once: Callable[[Any], T]) -> T:
        """What a pass gives whose every op is held against the float64 reference; one that is wrong ends the lane.

        Args:
            lane: whose.
            once: the pass, given a runner.

        Raises:
            NotFinite: the model's own numbers are NaN or infinite, whichever code computes with them.
        """
        cell = lane.prepared.cell
        watched = WatchedRunner.of(self._on_ops(lane), cell.seed)
        found = once(watched)
        if watched.watch.not_finite:
            where = f"the cell's own tensors at {watched.watch.not_finite}"
            raise not_finite(cell.name, where, self.runner, lambda: once(self._on_ops(lane)))
        lane.parity = watched.watch.worst()
        wrong = [op for op, held in lane.parity.items() if not held["err"] <= held["bound"]]
        if not lane.parity:
            lane.end("parity_failed", "called no op: nothing could be held against the reference")
        elif wrong:
            lane.end("parity_failed", f"{', '.join(wrong)} disagrees with the float64 reference")
        return found

    @torch.inference_mode()
    def _pass(self, lane: Lane, example: Example, timed: bool = False) -> None:
        """One prompt: the prefill, the answer, the score; in a workload with times also where none is taken."""
        cell, method = lane.prepared.cell, lane.method
        if method is None:
            return
        clock = lane.clock if timed or not cell.timed else StageClock(self.device)
        prompt = device_prompt(example, self.device)
        fixed_length = lane.prepared.effort.rules.fixed_length
        eos_ids, stop_ids = ((), ()) if fixed_length else (self.runner.spec.eos_ids, example.stop_ids)
        whole = self._whole(cell, example, "" if fixed_length else example.stop_at)
        limits = (example.new_tokens, eos_ids, self.device, stop_ids, whole)
        if lane.prepared.effort.flush_caches:
            flush_caches(self.device)
        portable_before, graphs_before = portable_calls(cell.backend), compiled_graphs()
        with sampled(self.meter, lane.readings):
            prefilled, elapsed = clocked(lambda: method.prefill(prompt, clock), self.device)
            with clock("decode"):
                answered = decode(method, prefilled, *limits, steps=lane.replayed(prefilled) if timed else None)
        clock.end_pass()

        def again() -> object:
            once_more = method.prefill(prompt, no_stages)
            return decode(method, once_more, *limits)

        require_finite(cell.name, self.runner, prefilled, answered, again)
        portable = portable_calls(cell.backend) - portable_before
        if timed:
            lane.warn(late_graphs(graphs_before))
            lane.samples_ms.append(elapsed.ms)
            lane.wall_ms += [] if elapsed.wall_ms is None else [elapsed.wall_ms]
            lane.step_ms.append(answered.step_ms)
        unchecked = [UNCHECKED] if cell.backend == "torch" and not cell.is_full else []
        prediction = self.runner.tokenizer.decode(answered.tokens)
        held = sizes(prefilled)
        sample = Sample(
            cell=cell.key,
            id=example.id,
            prediction=prediction,
            **self._scored(lane.prepared, example, prediction),
            prompt_sha256=example.sha256,
            key_chunk=key_chunk(example, prefilled.spans),
            prefill_ms=elapsed.ms if timed else None,
            tokens=prompt.context_tokens - prompt.new_tokens,
            tokens_before=example.tokens_before,
            words=example.words,
            finish="end" if answered.ended else "length",
            key_depth=key_depth(example),
            warnings=[*example.warnings, *prefilled.warnings, *portable, *unchecked],
            **held,
        )
        lane.add(sample, answered.tokens)
        lane.chunks, lane.chunk_tokens = sample.chunks, sample.chunk_tokens
        lane.kept_tokens, lane.kv_bytes = sample.kept_tokens, sample.kv_bytes
        lane.kv_bytes_predicted, lane.kv_bytes_prompt = prefilled.kv_bytes_predicted, prefilled.kv_bytes_prompt

    def _whole(self, cell: Cell, example: Example, stop_at: str) -> Callable[[list[int]], bool]:
        """Whether tokens are all of an answer by the task's rule for its text."""
        found, text = re.compile(stop_at).search, self.runner.tokenizer.decode
        return lambda tokens: bool(stop_at) and found(self._said(cell, example, text(tokens))) is not None

    def _scored(self, prepared: Prepared, example: Example, prediction: str) -> dict[str, Any]:
        """Of a sample what its prediction is held against, and what came of it."""
        cell, task = prepared.cell, prepared.task
        scored = self.runner.spec.trained and prepared.effort.rules.scored
        said = self._said(cell, example, prediction)
        return dict(
            task=task_id(cell.task, task),
            answers=list(example.answers),
            score=score(task, said, example.answers, example.classes) if scored else None,
            scorer=task.scorer_id if scored else None,
            answer_rule=RULE if scored and said != prediction else None,
        )

    def _said(self, cell: Cell, example: Example, prediction: str) -> str:
        """What of a prediction is an answer."""
        if cell.thinking == "keep":
            return prediction
        return without_thoughts(prediction, opened=opens_thought(self.runner.tokenizer.decode(example.query)))

    def _fit(self, lane: Lane, example: Example) -> None:
        """What the suite's budget holds, where it has one."""
        budget = lane.prepared.effort.budget_bytes
        if budget is None:
            return
        self.say(f"{lane.prepared.cell.name}: what fits in {budget} bytes")
        try:
            lane.fit = fit(lane.prepared, self.runner, example, lane.chunk_tokens, budget)
            lane.warn(ANY_LENGTH if lane.fit.any_length else None)
        except ConfigError as error:
            lane.warn(str(error))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            lane.warn(f"budget_bytes {budget} is more than is free here: {first_line(error)}")

    def _guarded(self, lane: Lane, step: Callable[[], None]) -> None:
        """Runs a step of a lane that still goes on; what goes wrong ends the lane, not the run."""
        if lane.status != "ok":
            return
        try:
            step()
        except RankLost:
            raise
        except Exception as error:  # becomes the cell's status
            self._end(lane, error)
        if lane.status != "ok":
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _end(self, lane: Lane, error: Exception) -> None:
        """Ends a lane with the status that an error is."""
        if isinstance(error, BadData | NotFinite):
            lane.end("error", str(error))
        elif isinstance(error, DataMissing):
            lane.end("data_missing", str(error))
        elif isinstance(error, BackendUnavailable | ConfigError | ShapeError):
            lane.end("unsupported", str(error))
        elif is_out_of_memory(error):
            lane.trace = traceback.format_exc()
            lane.end("out_of_memory", first_line(error))
        else:
            lane.trace = traceback.format_exc()
            lane.end("error", f"{type(error).__name__}: {error}".splitlines()[0])
