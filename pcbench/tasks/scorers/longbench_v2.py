"""LongBench v2: which of four choices did the answer name?"""

import re
from collections.abc import Sequence

from pcbench.tasks.scorers import EVERY, Metric, Scorer

__all__ = ["v2"]

# in brackets anywhere comes before without
NAMED = (re.compile(r"The correct answer is \(([A-D])\)"), re.compile(r"The correct answer is ([A-D])"))


def choice_named(prediction: str, answers: Sequence[str]) -> float:
    """1 where the prediction says "The correct answer is (A)" with the right letter, asterisks aside."""
    plain = prediction.replace("*", "")
    letters = [found[1] for found in (pattern.search(plain) for pattern in NAMED) if found]
    return float(bool(letters) and letters[0] == answers[0])


v2 = Scorer(
    id="longbench-v2",
    version=1,
    summary="LongBench v2: 1 where the named choice is right",
    source="LongBench v2, arXiv:2412.15204; rules of github.com/THUDM/LongBench (MIT), pred.py",
    metrics={EVERY: Metric(name="accuracy", function=choice_named)},
    benchmark="longbench-v2",
)
