"""Scores and losses of two runs against each other, prompt by prompt."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pcbench.differences import Difference, loss_difference, paired_difference
from pcbench.report.compare.runs import ComparedRun, shared_cells
from pcbench.report.compare.times import joint_confidence

__all__ = ["ROUNDING", "LossChange", "PairedChange", "ScoreChange", "loss_changes", "score_changes"]

# a mean of graded scores is not exact
ROUNDING = 1e-9

# values, baseline and confidence → their difference
Differ = Callable[..., Difference]


@dataclass(frozen=True, kw_only=True)
class PairedChange:
    """A mean over prompts in the baseline run and in another run.

    Args:
        run: the other run.
        cell: its key.
        name: its name.
        before: the mean in the baseline run, over all its prompts.
        after: the same in the other run; None where it has none.
        prompts: that both answered, or windows that both read.
        difference: other minus baseline over these; None without any.
        ci_low: of the difference; None where there is no interval.
        ci_high: the same.
        verdict: of this difference alone, in the words of `differences.Difference`.
        regression: gated, worse by the margin, and significantly for all of its kind in the comparison together.
        undecided: gated and no regression, and the mean or every prompt of it is missing, or it is worse by the
            margin, over the prompts of both or each run over its own.
    """

    # of records and samples, which verdict is worse, what messages say, and a unit with its factor and decimals
    field: ClassVar[str]
    worse: ClassVar[Literal["lower", "higher"]]
    what: ClassVar[str]
    plural: ClassVar[str]
    noun: ClassVar[str]
    more: ClassVar[str]
    unit: ClassVar[str]
    factor: ClassVar[float]
    digits: ClassVar[int]

    run: str
    cell: str
    name: str
    before: float
    after: float | None
    prompts: int
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    verdict: str
    regression: bool
    undecided: bool

    @classmethod
    def worsening(cls, difference: float) -> float:
        """How much worse a difference makes it."""
        return difference if cls.worse == "higher" else -difference

    def written(self, value: float, sign: str = "") -> str:
        """A value in the unit; with the sign "+" also where it is positive."""
        return f"{value * self.factor:{sign}.{self.digits}f}"


@dataclass(frozen=True, kw_only=True)
class ScoreChange(PairedChange):
    """A cell's score, 0…1; lower is worse.

    Args:
        scorer: the same in both.
        p: by McNemar, where every score is 0 or 1.
        others: as `PairedChange` says; the interval is that of `differences.paired_difference`.
    """

    field, worse = "score", "lower"
    what, plural, noun, more = "score", "scores", "prompt", "answer more prompts"
    unit, factor, digits = "points", 100, 1

    scorer: str
    p: float | None


@dataclass(frozen=True, kw_only=True)
class LossChange(PairedChange):
    """A cell's loss on a text, nats a token; higher is worse. As `PairedChange` says, the interval is the bootstrap's.

    A gate's margin is a share of perplexity, which is e to the loss.
    """

    field, worse = "nll", "higher"
    what, plural, noun, more = "loss", "losses", "window", "read more windows"
    unit, factor, digits = "nats", 1, 4


def score_changes(runs: Sequence[ComparedRun], margin: float | None = None) -> list[ScoreChange]:
    """Every cell that the baseline run scored and that ended ok in another run, the worst first.

    Args:
        runs: the baseline first.
        margin: 0…1, of the gate; None gates nothing.
    """
    found = [
        ScoreChange(**fields, scorer=runs[0].records[fields["cell"]].scorer or "", p=alone and alone.p)
        for fields, alone in _changes(ScoreChange, paired_difference, runs, margin)
    ]
    return sorted(found, key=lambda change: change.difference or 0.0)


def loss_changes(runs: Sequence[ComparedRun], margin: float | None = None) -> list[LossChange]:
    """The same of cells with a loss.

    Args:
        runs: the baseline first.
        margin: of the gate, a share of perplexity; None gates nothing.
    """
    nats = None if margin is None else math.log1p(margin)
    found = [LossChange(**fields) for fields, _ in _changes(LossChange, loss_difference, runs, nats)]
    return sorted(found, key=lambda change: -(change.difference or 0.0))


def _changes(
    kind: type[PairedChange], differ: Differ, runs: Sequence[ComparedRun], margin: float | None
) -> Iterator[tuple[dict[str, Any], Difference | None]]:
    """The fields of every change, and its difference over the prompts of both."""
    cells = [
        (cell, other)
        for other in runs[1:]
        for cell in shared_cells(runs[0], other)
        if getattr(runs[0].records[cell], kind.field) is not None and other.records[cell].status == "ok"
    ]
    confidence = joint_confidence(len(cells))
    for cell, other in cells:
        yield _change(kind, differ, cell, runs[0], other, margin, confidence)


def _change(
    kind: type[PairedChange],
    differ: Differ,
    cell: str,
    baseline: ComparedRun,
    other: ComparedRun,
    margin: float | None,
    confidence: float,
) -> tuple[dict[str, Any], Difference | None]:
    pairs = list(_pairs(kind.field, cell, baseline, other))
    before, after = [a for a, _ in pairs], [b for _, b in pairs]
    alone = differ(after, before) if pairs else None
    here, there = (getattr(run.records[cell], kind.field) for run in (baseline, other))
    # averages have no samples of their own
    missing = there is None or (not pairs and bool(baseline.samples.get(cell)))
    differences = [*([alone.mean] if alone else []), *([] if there is None else [there - here])]
    least = math.inf if margin is None else margin - ROUNDING
    beyond = any(kind.worsening(difference) >= least for difference in differences)
    # by the same prompts, and significantly
    found = differ(after, before, confidence) if beyond and pairs else None
    worse = found is not None and kind.worsening(found.mean) >= least and found.verdict(confidence) == kind.worse
    fields = {
        "run": other.name,
        "cell": cell,
        "name": baseline.names[cell],
        "before": here,
        "after": there,
        "prompts": len(pairs),
        "difference": alone and alone.mean,
        "ci_low": alone and alone.low,
        "ci_high": alone and alone.high,
        "verdict": (alone or Difference(0.0, None, None, None, 0)).words(),
        "regression": worse,
        "undecided": margin is not None and (missing or beyond) and not worse,
    }
    return fields, alone


def _pairs(field: str, cell: str, baseline: ComparedRun, other: ComparedRun) -> Iterator[tuple[float, float]]:
    """What both runs have of the same prompts; their texts are the same, or the runs were refused."""
    there = other.samples.get(cell, {})
    for prompt, sample in baseline.samples.get(cell, {}).items():
        a, b = getattr(sample, field), getattr(there.get(prompt), field, None)
        if a is not None and b is not None:
            yield a, b
