"""Lanes of a group → records: percentiles, speed-ups, scores."""

from collections.abc import Sequence
from typing import Any

import torch

from pcbench.differences import Difference, paired_difference
from pcbench.harness.kinds.methods.lane import Lane
from pcbench.harness.kinds.times import add_samples
from pcbench.measure.machine.telemetry import summary
from pcbench.measure.parity import Comparison, worst
from pcbench.statistics import median_interval, percentile, ratio_interval, score_interval
from pcbench.tasks import Task
from pcbench.tasks.base import task_id
from pcbench.types import Cell, ModelSpec, Record, Sample

__all__ = ["add_difference", "add_kept", "add_parity", "add_scores", "paired_scores", "summarise"]

# the parameter by which a method evicts tokens inside what it keeps; None keeps them all
EVICTION = "evict"
# of the model that is loaded here, which no engine computes with
OF_MODEL = ("weights_bytes", "quantization", "compile_ms")


def summarise(lanes: list[Lane], spec: ModelSpec, shared: dict[str, Any], repro: str) -> list[Record]:
    """One record a lane.

    Args:
        lanes: of one group, finished.
        spec: their model.
        shared: fields all records of the run carry: run, gpu, arch, torch, commit, …
        repro: the command that measures this group again.
    """
    return [_record(lane, lanes, spec, shared, repro) for lane in lanes]


def _record(lane: Lane, lanes: list[Lane], spec: ModelSpec, shared: dict[str, Any], repro: str) -> Record:
    cell, task = lane.prepared.cell, lane.prepared.task
    if cell.engine:
        shared = {name: value for name, value in shared.items() if name not in OF_MODEL}
    record = Record.of(
        cell,
        task=task_id(cell.task, task),
        chunk_tokens=lane.chunk_tokens,
        chunks=lane.chunks,
        kept_tokens=lane.kept_tokens,
        status=lane.status,
        reason=lane.reason,
        warnings=[*lane.warnings, *lane.attention_warnings()],
        sdpa_ms=lane.sdpa_ms,
        **lane.attention(),
        peak_bytes=lane.peak.bytes,
        peak_samples_bytes=lane.peak.samples,
        reserved_bytes=lane.peak.reserved,
        driver_bytes=lane.peak.driver,
        phase_bytes=lane.peak.phases,
        kv_bytes=lane.kv_bytes,
        kv_bytes_predicted=lane.kv_bytes_predicted,
        kv_bytes_prompt=lane.kv_bytes_prompt,
        telemetry_summary=summary(lane.readings),
        repro_command=repro,
        **shared,
    )
    add_parity(record, lane.parity)
    if lane.status == "ok":
        _add_times(record, lane)
        _add_served(record, lane)
        _add_speedups(record, lane, lanes, spec)
        _add_fit(record, lane, lanes)
        scored = lane.prepared.effort.rules.scored and not cell.engine
        add_scores(record, lane.samples, task, unscored=not spec.trained and scored)
        full = next((x for x in lanes if x.prepared.cell.is_full and x.status == "ok"), lane)
        if not cell.is_full and full is not lane:
            pairs = paired_scores(lane.samples, full.samples)
            add_difference(record, paired_difference(*pairs) if pairs[0] else None)
    return record


def add_parity(record: Record, found: dict[str, dict[str, float]] | None) -> None:
    """Every op's agreement, and the worst; None for stock code."""
    record.parity_ops = found
    if found:
        last = worst({op: Comparison(**numbers) for op, numbers in found.items()})
        record.parity_err, record.parity_bound = last.err, last.bound


def _add_times(record: Record, lane: Lane) -> None:
    if not lane.samples_ms:
        return
    seconds = add_samples(record, lane.samples_ms) / 1e3
    record.warmup_ms = lane.warmup_ms
    record.stages_ms = lane.clock.median_ms()
    cell = lane.prepared.cell
    record.prefill_tokens_per_s = (cell.context_tokens - lane.prepared.new_tokens) / seconds
    if lane.chunks:
        record.chunks_per_s = lane.chunks / seconds
    if lane.wall_ms:
        record.wall_ms_p50 = percentile(lane.wall_ms, 50)
    answers = [percentile(answer, 50) for answer in lane.step_ms if answer]
    if answers:
        record.decode_samples_ms, record.decode_ms_per_token = answers, percentile(answers, 50)
        record.decode_replayed = lane.alike
        found = median_interval(answers)
        record.decode_ms_ci_low, record.decode_ms_ci_high = found or (None, None)


def _add_served(record: Record, lane: Lane) -> None:
    """Of an engine; the times of other cells are not its."""
    if lane.served is None:
        return
    served, times = lane.served, lane.served.first_ms
    record.served_model, record.served_samples_ms = served.model, times
    record.served_ms_p50 = percentile(times, 50)
    record.served_ms_ci_low, record.served_ms_ci_high = median_interval(times) or (None, None)
    record.served_prefill_ms = percentile(served.prefill_ms, 50) if served.prefill_ms else None
    record.served_tokens_per_s = percentile(served.tokens_per_s, 50) if served.tokens_per_s else None


def _add_speedups(record: Record, lane: Lane, lanes: list[Lane], spec: ModelSpec) -> None:
    """Only for lanes whose parity passed: stock code and methods without an op have none."""
    if not lane.parity:
        return
    cell = lane.prepared.cell
    stock = [x for x in lanes if x.prepared.cell.is_full and _comparable(x, lane)]
    if stock:
        fastest = min(stock, key=lambda x: percentile(x.samples_ms, 50))
        base = fastest.prepared.cell
        kernel = fastest.prepared.effort.sdpa or _torch_choice(spec, base)
        record.baseline = f"{base.method}/torch/sdpa-{kernel}"
        ratio = ratio_interval(fastest.samples_ms, lane.samples_ms)
        record.speedup_vs_full, record.speedup_vs_full_ci_low, record.speedup_vs_full_ci_high = ratio
        _add_decode_speedup(record, lane, fastest)
    same = [
        x
        for x in lanes
        if x.prepared.cell.backend == "reference"
        and (x.prepared.cell.method, x.prepared.cell.method_config) == (cell.method, cell.method_config)
        and _comparable(x, lane)
    ]
    if same and cell.backend != "reference":
        ratio = ratio_interval(same[0].samples_ms, lane.samples_ms)
        record.speedup_vs_reference, record.speedup_vs_reference_ci_low, record.speedup_vs_reference_ci_high = ratio


def _add_decode_speedup(record: Record, lane: Lane, stock: Lane) -> None:
    """Of the passes in which both answered with more than a token."""
    both = [(theirs, ours) for theirs, ours in zip(stock.step_ms, lane.step_ms, strict=True) if theirs and ours]
    if not both:
        return
    if (stock.alike is None) != (lane.alike is None):
        record.warnings.append("no ratio of decoding to full attention: only one of them is replayed from graphs")
        return
    theirs, ours = ([percentile(answer, 50) for answer in side] for side in zip(*both, strict=True))
    found = ratio_interval(theirs, ours)
    record.decode_speedup_vs_full, record.decode_speedup_vs_full_ci_low, record.decode_speedup_vs_full_ci_high = found


def _comparable(other: Lane, lane: Lane) -> bool:
    return other.status == "ok" and bool(lane.samples_ms) and len(other.samples_ms) == len(lane.samples_ms)


def _add_fit(record: Record, lane: Lane, lanes: list[Lane]) -> None:
    """What fits in the budget, and how much more than in the same cell that evicts no token."""
    held = lane.fit
    record.budget_bytes, record.chunks_that_fit = held.budget_bytes, held.chunks
    record.longest_context_tokens = held.context_tokens
    if held.chunks is None or record.method_config.get(EVICTION) is None:
        return
    for other in lanes:
        config = other.prepared.cell.method_config
        if config.get(EVICTION) is None and _but_eviction(other) == _but_eviction(lane) and other.fit.chunks:
            record.fit_ratio = held.chunks / other.fit.chunks


def _but_eviction(lane: Lane) -> tuple[str, str, dict[str, Any]]:
    """What a cell is, whether or not it evicts tokens."""
    cell = lane.prepared.cell
    return cell.method, cell.backend, {name: x for name, x in cell.method_config.items() if name != EVICTION}


def add_kept(record: Record, samples: Sequence[Sample]) -> None:
    """How many chunks were kept at most, and how often the needle's."""
    kept = [s for s in samples if s.kept_chunks is not None]
    if kept:
        record.chunks_kept = max(len(s.kept_chunks or ()) for s in kept)
    found = [float(s.key_chunk in (s.kept_chunks or ())) for s in kept if s.key_chunk is not None]
    if found:
        record.key_chunk_kept = sum(found) / len(found)


def add_scores(record: Record, samples: Sequence[Sample], task: Task, *, unscored: bool) -> None:
    """What was kept, and the mean score with its interval.

    Args:
        record: filled.
        samples: of its cell.
        task: theirs.
        unscored: only for want of trained weights, which is a warning.
    """
    add_kept(record, samples)
    scores = [s.score for s in samples if s.score is not None]
    if not scores:
        if unscored:
            record.warnings.append("random weights: not scored")
        return
    record.score, record.score_ci_low, record.score_ci_high = score_interval(scores)
    record.score_name, record.scorer, record.n_samples = task.score_name, task.scorer_id, len(scores)
    if thoughts := [s.answer_rule for s in samples if s.answer_rule]:
        record.answer_rule = thoughts[0]
        record.warnings.append(
            f"{thoughts[0]}: {len(thoughts)} of {len(samples)} answers had their thought cut before scoring"
        )


def paired_scores(samples: Sequence[Sample], baseline: Sequence[Sample]) -> tuple[list[float], list[float]]:
    """Scores of both on the prompts that both have, which one of them may have read with its middle cut out."""
    theirs = {s.id: s.score for s in baseline if s.score is not None}
    shared = [s for s in samples if s.score is not None and s.id in theirs]
    return [s.score for s in shared if s.score is not None], [theirs[s.id] for s in shared]


def add_difference(record: Record, found: Difference | None) -> None:
    """The score minus full attention's; None where they share no prompt."""
    if found is not None:
        record.score_vs_full, record.score_vs_full_ci_low, record.score_vs_full_ci_high = found[:3]
        record.score_vs_full_p, record.score_vs_full_pairs = found.p, found.n


def _torch_choice(spec: ModelSpec, cell: Cell) -> str:
    """The kernel that torch's SDPA chooses for the cell's attention: flash, efficient, cudnn, math."""
    like: Any = {"device": "cpu" if cell.device == "cpu" else "cuda", "dtype": getattr(torch, cell.dtype)}
    q = torch.empty(1, spec.heads, cell.context_tokens, spec.head_dim, **like)
    k = torch.empty(1, spec.kv_heads, cell.context_tokens, spec.head_dim, **like)
    grouped = spec.heads != spec.kv_heads
    choice = torch._fused_sdp_choice(q, k, k, is_causal=True, enable_gqa=grouped)
    name = torch.nn.attention.SDPBackend(choice).name
    return name.removesuffix("_ATTENTION").lower()
