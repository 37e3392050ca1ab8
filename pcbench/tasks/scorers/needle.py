"""Did the answer contain the key?"""

from collections.abc import Sequence

from pcbench.tasks.scorers import EVERY, Metric, Scorer

__all__ = ["needle"]


def contains_key(prediction: str, answers: Sequence[str]) -> float:
    """1 where the prediction contains one of the answers, else 0; an empty answer never counts."""
    return float(any(answer and answer in prediction for answer in answers))


needle = Scorer(
    id="needle",
    version=1,
    summary="1 where the prediction contains the key",
    source="the contained-key rule of RULER's needle tasks, arXiv:2404.06654",
    metrics={EVERY: Metric(name="key found", function=contains_key)},
)
