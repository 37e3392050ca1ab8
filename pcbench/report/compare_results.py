"""Scores, memory and endings of two runs against each other; shown, never gated by the margin."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pcbench.report.compare_runs import ComparedRun, shared_cells
from pcbench.statistics import MIN_PAIRS, mcnemar, mean_intervals
from pcbench.types import Record

__all__ = ["Ending", "MemoryChange", "ScoreChange", "endings", "memory_changes", "score_changes"]

MEMORY = ("peak_bytes", "reserved_bytes", "driver_bytes", "kv_bytes")
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
        after: the same in the other run.
        prompts: that both answered.
        difference: other minus baseline over these; None without any.
        ci_low: of the difference, by resampling prompts; None under five, and where no prompt differs.
        ci_high: the same.
        p: by McNemar, where there is an interval and every score is 0 or 1.
        verdict: "better", "worse", "no significant difference", "the same on every prompt" or "cannot tell".
    """

    run: str
    cell: str
    name: str
    scorer: str
    before: float
    after: float
    prompts: int
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p: float | None
    verdict: str


@dataclass(frozen=True, kw_only=True)
class MemoryChange:
    """A number of bytes, or of what fits into them, that differs between the baseline run and another run."""

    run: str
    cell: str
    name: str
    what: str
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a cell ended in each run, where not alike: a status with its reason, "not finished" or "not in the run"."""

    cell: str
    name: str
    endings: dict[str, str]


def score_changes(runs: Sequence[ComparedRun]) -> list[ScoreChange]:
    """Every cell that both the baseline run and another run scored, the worst first."""
    found = []
    for other in runs[1:]:
        for cell in shared_cells(runs[0], other):
            before, after = runs[0].records[cell], other.records[cell]
            if before.score is not None and after.score is not None:
                found.append(_score_change(before, after.score, runs[0], other))
    return sorted(found, key=lambda change: 0.0 if change.difference is None else change.difference)


def _score_change(record: Record, after: float, baseline: ComparedRun, other: ComparedRun) -> ScoreChange:
    pairs = list(_paired_scores(record.cell, baseline, other))
    differences = [b - a for a, b in pairs]
    difference = sum(differences) / len(pairs) if pairs else None
    low = high = p = None
    verdict = "cannot tell"
    if pairs and not any(differences):
        verdict = "the same on every prompt"
    elif len(pairs) >= MIN_PAIRS:
        _, low, high = mean_intervals({"": differences}, [])[1][""]
        if {x for pair in pairs for x in pair} <= {0, 1}:
            p = mcnemar([a for a, _ in pairs], [b for _, b in pairs])
        differs = (low > 0 or high < 0) and (p is None or p < 0.05)
        verdict = ("better" if low > 0 else "worse") if differs else "no significant difference"
    return ScoreChange(
        run=other.name,
        cell=record.cell,
        name=baseline.names[record.cell],
        scorer=record.scorer or "",
        before=record.score or 0.0,
        after=after,
        prompts=len(pairs),
        difference=difference,
        ci_low=low,
        ci_high=high,
        p=p,
        verdict=verdict,
    )


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
        MemoryChange(run=other.name, cell=cell, name=runs[0].names[cell], what=what, before=a, after=b)
        for other in runs[1:]
        for cell in shared_cells(runs[0], other)
        for before, after in [(runs[0].records[cell], other.records[cell])]
        for what in (*MEMORY, *FITTING)
        for a, b in [(getattr(before, what), getattr(after, what))]
        if a is not None and b is not None and a != b
    ]
    return sorted(found, key=_growth, reverse=True)


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
