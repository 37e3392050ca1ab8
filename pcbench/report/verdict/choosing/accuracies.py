"""How well methods answer at a length, over the tasks that they share, and which of two is shown to be better."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pcbench.differences import Difference, mean_of_means, pairs_that_tell
from pcbench.report.reading.results import Entry, Results
from pcbench.report.verdict.budgets import apart
from pcbench.report.verdict.changes import mean_change, score_change, score_difference
from pcbench.report.verdict.tradeoffs import shared
from pcbench.report.wording import Estimate

__all__ = ["Accuracy", "Question", "accuracy_of", "answers", "asked_of_all", "is_better"]


class Question(NamedTuple):
    """A task as answers are compared: scores of another scorer are another question."""

    workload: str
    task: str
    scorer: str


@dataclass(frozen=True)
class Accuracy:
    """The mean over the questions of what a method scores.

    Args:
        score: 0…1.
        prompts: of each question at least.
        change: score minus full attention's in points, prompt by prompt where records have it; None for full attention
            and without it beside.
        is_full: whether it is full attention's.
    """

    score: Estimate
    prompts: int
    change: Difference | None
    is_full: bool


def answers(entries: Iterable[Entry], context: int) -> dict[Question, Entry]:
    """The scores of a method at a length; of a question that several runs asked, the one of the most prompts."""
    found: dict[Question, Entry] = {}
    for entry in entries:
        r = entry.record
        if r.context_tokens != context or entry.score is None or entry.average:
            continue
        question = Question(r.workload, r.task or "", r.scorer or "")
        if question not in found or (found[question].record.n_samples or 0) <= (r.n_samples or 0):
            found[question] = entry
    return found


def asked_of_all(found: Sequence[Mapping[Question, Entry]]) -> list[Question]:
    """What every method that has a score was asked; where they share nothing, what most of them were."""
    scored = [one for one in found if one]
    common = shared(scored)
    counts = Counter(question for one in scored for question in one)
    return common or [question for question, _ in counts.most_common(1)]


def accuracy_of(
    results: Results, found: Mapping[Question, Entry], questions: Sequence[Question], *, is_full: bool
) -> Accuracy | None:
    """A method's mean over the questions; None unless it has a score of each."""
    entries = [found[question] for question in questions if question in found]
    if not entries or len(entries) < len(questions):
        return None
    mean, low, high = mean_of_means([e.score for e in entries if e.score is not None])
    # rounding, and distances that add up in squares, may leave the range of a score
    score = Estimate(mean, None if low is None else max(0.0, low), None if high is None else min(1.0, high))
    changes = [change.difference for e in entries if (change := score_change(results, e)) is not None]
    change = mean_change(changes) if len(changes) == len(entries) else None
    return Accuracy(score, min(e.record.n_samples or 0 for e in entries), change, is_full)


def can_compare(a: Accuracy, b: Accuracy) -> bool:
    """Whether there are prompts enough for any difference to be one."""
    ends = (a.score.low, a.score.high, b.score.low, b.score.high)
    return min(a.prompts, b.prompts) >= pairs_that_tell() and None not in ends


def is_better(a: Accuracy, b: Accuracy) -> bool:
    """Whether a is shown to be better than b.

    Against full attention by the same prompts, where the records hold that; else only where the two intervals have
    nothing in common.
    """
    if not can_compare(a, b):
        return False
    if a.is_full and b.change is not None:
        return b.change.verdict() == "lower"
    if b.is_full and a.change is not None:
        return a.change.verdict() == "higher"
    difference = Difference(*score_difference(a.score, b.score), None, min(a.prompts, b.prompts))
    return difference.verdict() == "higher" and apart(a.score, b.score)
