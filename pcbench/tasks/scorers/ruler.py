"""RULER: the references that a prediction contains, case aside."""

from collections.abc import Sequence

from pcbench.tasks.scorers import EVERY, Metric, Scorer

__all__ = ["ruler"]


def references_found(prediction: str, answers: Sequence[str]) -> float:
    """The share of the references in the prediction; empty ones are never found."""
    return sum(_found(prediction, answer) for answer in answers) / len(answers)


def any_reference_found(prediction: str, answers: Sequence[str]) -> float:
    """1 where one of the references is in the prediction."""
    return float(any(_found(prediction, answer) for answer in answers))


def _found(prediction: str, answer: str) -> bool:
    return bool(answer) and answer.lower() in prediction.lower()


ANY = Metric(name="answer found", function=any_reference_found)

ruler = Scorer(
    id="ruler",
    version=1,
    summary="RULER: share of the references contained; one is enough in qa_1 and qa_2",
    source="RULER, arXiv:2404.06654; an empty reference counts as missing is ours",
    metrics={EVERY: Metric(name="references found", function=references_found), "qa_1": ANY, "qa_2": ANY},
)
