"""What became of a cell: on a rank, on all of them, and in a shard, whose folder keeps it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pcbench.harness.kinds import Taken
from pcbench.measure.parity import Comparison
from pcbench.types import Cell, Part, Sample, Status

__all__ = ["Outcome", "joined", "outcome_of", "part_of"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a cell, on one rank or on all.

    Args:
        samples: of its prompts.
        status, reason, trace: how it ended.
        parity: of its first prompt.
        ended_at: the prompt it ended at, −1 before the first.
        prompts: whose texts.
        skipped: prompt → why its record could not be read or scored.
        attention: fields of the record that say by what the attention of chunks was computed; warnings of that.
        weights: fields of the record that say what the model's weights were.
    """

    samples: list[Sample] = field(default_factory=list)
    status: Status = "ok"
    reason: str | None = None
    trace: str | None = None
    parity: dict[str, dict[str, float]] | None = None
    ended_at: int = -1
    prompts: str | None = None
    skipped: dict[int, str] = field(default_factory=dict)
    attention: dict[str, Any] = field(default_factory=dict)
    attention_warnings: list[str] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)


def joined(parts: Sequence[Outcome]) -> Outcome:
    """The outcome of a cell whose prompts were shared: all samples in their order; ended where the first part ended.

    Of every op the worst agreement.
    """
    ended = [part for part in parts if part.status != "ok"]
    first = min(ended, key=lambda part: part.ended_at, default=parts[0])
    samples = sorted((s for part in parts for s in part.samples), key=lambda s: s.index or 0)
    skipped = {index: why for part in parts for index, why in part.skipped.items()}
    return replace(first, samples=samples, skipped=dict(sorted(skipped.items())), parity=_worst_parity(first, parts))


def _worst_parity(first: Outcome, parts: Sequence[Outcome]) -> dict[str, dict[str, float]] | None:
    held: dict[str, list[dict[str, float]]] = {}
    for part in (first, *parts):
        for op, numbers in (part.parity or {}).items():
            held.setdefault(op, []).append(numbers)
    return {op: max(found, key=_ratio) for op, found in held.items()} or first.parity


def _ratio(numbers: dict[str, float]) -> float:
    ratio = Comparison(**numbers).ratio
    return math.inf if math.isnan(ratio) else ratio


def part_of(cell: Cell, outcome: Outcome) -> Part:
    """What a shard keeps of an outcome besides the record and the samples."""
    ended_at = None if outcome.ended_at < 0 else outcome.ended_at
    skipped = {str(index): why for index, why in outcome.skipped.items()}
    warnings = outcome.attention_warnings
    return Part(cell=cell.key, prompts=cell.prompts, ended_at=ended_at, skipped=skipped, attention_warnings=warnings)


def outcome_of(taken: Taken) -> Outcome:
    """The outcome that a shard has kept; its traceback is in errors.txt."""
    record, part = taken.record, taken.part
    return Outcome(
        samples=taken.samples,
        status=record.status,
        reason=record.reason,
        parity=record.parity_ops,
        ended_at=-1 if part.ended_at is None else part.ended_at,
        prompts=record.prompts,
        skipped={int(index): why for index, why in part.skipped.items()},
        attention={"attention_kernel": record.attention_kernel, "attention_ms": record.attention_ms},
        attention_warnings=part.attention_warnings,
        weights={"weights_bytes": record.weights_bytes, "quantization": record.quantization},
    )
