"""Scores, memory and endings of two runs against each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pcbench.differences import Difference, paired_difference
from pcbench.report.compare.runs import ComparedRun, shared_cells
from pcbench.report.compare.times import joint_confidence
from pcbench.types import Record

__all__ = ["ROUNDING", "Ending", "MemoryChange", "ScoreChange", "endings", "memory_changes", "score_changes"]

MEMORY = ("peak_bytes", "reserved_bytes", "driver_bytes", "kv_bytes")
# a mean of graded scores is not exact
ROUNDING = 1e-9
FITTING = ("chunks_that_fit", "longest_context_tokens", "fit_ratio")


@dataclass(frozen=True, kw_only=True)
class ScoreChange:
    """A cell's score in the baseline run and in another run, 0…1.

    Args:
        run: the other run.
        cell: its key.
        name: its name.
        scorer: the same in both.
        before: the score in the baseline run, over all its prompts.
        after: the same in the other run; None where it has none.
        prompts: that both answered.
        difference: other minus baseline over these; None without any.
        ci_low: of the difference; see `differences.paired_difference`.
        ci_high: the same.
        p: by McNemar, where every score is 0 or 1.
        verdict: of this score alone, in the words of `differences.Difference`.
        regression: gated, lower by the margin, and significantly for all scores of the comparison together.
        undecided: gated and no regression, and the score or every prompt of it is missing, or it is lower by the
            margin, over the prompts of both or each run over its own.
    """

    run: str
    cell: str
    name: str
    scorer: str
    before: float
    after: float | None
    prompts: int
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p: float | None
    verdict: str
    regression: bool
    undecided: bool


@dataclass(frozen=True, kw_only=True)
class MemoryChange:
    """A number of bytes, or of what fits into them, that differs between the baseline run and another run.

    Args:
        overlap: whether it is a peak whose passes in both runs overlap, so that it cannot be told from none.
    """

    run: str
    cell: str
    name: str
    what: str
    before: float
    after: float
    overlap: bool


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a cell ended in each run, where not alike: a status with its reason, "not finished" or "not in the run"."""

    cell: str
    name: str
    endings: dict[str, str]


def score_changes(runs: Sequence[ComparedRun], margin: float | None = None) -> list[ScoreChange]:
    """Every cell that the baseline run scored and that ended ok in another run, the worst first.

    Args:
        runs: the baseline first.
        margin: 0…1, of the gate; None gates nothing.
    """
    scored = [
        (cell, other)
        for other in runs[1:]
        for cell in shared_cells(runs[0], other)
        if runs[0].records[cell].score is not None and other.records[cell].status == "ok"
    ]
    confidence = joint_confidence(len(scored))
    found = [_score_change(cell, runs[0], other, margin, confidence) for cell, other in scored]
    return sorted(found, key=lambda change: 0.0 if change.difference is None else change.difference)


def _score_change(
    cell: str, baseline: ComparedRun, other: ComparedRun, margin: float | None, confidence: float
) -> ScoreChange:
    record, pairs = baseline.records[cell], list(_paired_scores(cell, baseline, other))
    before, after = [a for a, _ in pairs], [b for _, b in pairs]
    alone = paired_difference(after, before) if pairs else None
    there = other.records[cell].score
    # averages have no samples of their own
    missing = there is None or (not pairs and bool(baseline.samples.get(cell)))
    differences = [*([alone.mean] if alone else []), *([] if there is None else [there - (record.score or 0.0)])]
    beyond = margin is not None and any(difference <= ROUNDING - margin for difference in differences)
    lower = beyond and _is_lower(after, before, margin or 0.0, confidence)
    return ScoreChange(
        run=other.name,
        cell=cell,
        name=baseline.names[cell],
        scorer=record.scorer or "",
        before=record.score or 0.0,
        after=there,
        prompts=len(pairs),
        difference=alone and alone.mean,
        ci_low=alone and alone.low,
        ci_high=alone and alone.high,
        p=alone and alone.p,
        verdict=(alone or Difference(0.0, None, None, None, 0)).words(),
        regression=lower,
        undecided=margin is not None and (missing or beyond) and not lower,
    )


def _is_lower(after: Sequence[float], before: Sequence[float], margin: float, confidence: float) -> bool:
    """Whether the same prompts show a score that is lower by the margin, and significantly."""
    if not after:
        return False
    found = paired_difference(after, before, confidence)
    return found.mean <= ROUNDING - margin and found.verdict(confidence) == "lower"


def _paired_scores(cell: str, baseline: ComparedRun, other: ComparedRun) -> Iterator[tuple[float, float]]:
    """The scores of prompts that both runs answered; their texts are the same, or the runs were refused."""
    there = other.samples.get(cell, {})
    for prompt, sample in baseline.samples.get(cell, {}).items():
        if prompt in there and sample.score is not None:
            score = there[prompt].score
            if score is not None:
                yield sample.score, score


def memory_changes(runs: Sequence[ComparedRun]) -> list[MemoryChange]:
    """Every number of bytes or of what fits that is not the same, the largest growth first."""
    found = [
        MemoryChange(
            run=other.name,
            cell=cell,
            name=runs[0].names[cell],
            what=what,
            before=a,
            after=b,
            overlap=what == "peak_bytes" and _passes_overlap(before, after),
        )
        for other in runs[1:]
        for cell in shared_cells(runs[0], other)
        for before, after in [(runs[0].records[cell], other.records[cell])]
        for what in (*MEMORY, *FITTING)
        for a, b in [(getattr(before, what), getattr(after, what))]
        if a is not None and b is not None and a != b
    ]
    return sorted(found, key=_growth, reverse=True)


def _passes_overlap(before: Record, after: Record) -> bool:
    a, b = (record.peak_samples_bytes or [record.peak_bytes or 0] for record in (before, after))
    return min(a) <= max(b) and min(b) <= max(a)


def _growth(change: MemoryChange) -> float:
    """How much worse: more bytes, or less that fits into them."""
    a, b = (change.after, change.before) if change.what in FITTING else (change.before, change.after)
    return b / a if a else float("inf")


def endings(runs: Sequence[ComparedRun]) -> list[Ending]:
    """Cells that did not end alike in every run, those first that a later run lost."""
    names = {cell: name for run in reversed(runs) for cell, name in run.names.items()}
    found = []
    for cell, name in names.items():
        ends = {run.name: _ending(cell, run) for run in runs}
        if len({text.partition(":")[0] for text in ends.values()}) > 1:
            found.append(Ending(cell=cell, name=name, endings=ends))
    return sorted(found, key=lambda ending: ending.endings[runs[0].name] != "ok")


def _ending(cell: str, run: ComparedRun) -> str:
    record = run.records.get(cell)
    if record is None:
        return "not finished" if cell in run.manifest.get("cells", ()) else "not in the run"
    return record.status if record.status == "ok" else f"{record.status}: {record.reason}"
