"""UNComp and ParallelComp on InfiniteBench, where labels are taken apart into characters; explains their numbers.

Their Code.Debug draws a random letter where no answer is found; how it is seeded is not described well enough to
reproduce it, so it has no metric here.
"""

from collections.abc import Sequence
from typing import Any

from pcbench.tasks.scorers import Metric, Scorer, best
from pcbench.tasks.scorers.metrics.found import first_name_among_words
from pcbench.tasks.scorers.metrics.overlap import word_f1

__all__ = ["uncomp"]


def initial_among_words(prediction: str, answers: Sequence[Any]) -> float:
    """1 where the first character of one of the names is a word of its own."""
    return max((first_name_among_words(prediction, str(answer)[:1]) for answer in answers if answer), default=0.0)


def character_as_answer(prediction: str, answers: Sequence[Any]) -> float:
    """The best word F1 of the prediction and a single character of an answer."""
    return best(word_f1)(prediction, [character for answer in answers for character in str(answer)])


uncomp = Scorer(
    id="uncomp",
    version=1,
    summary="what UNComp and ParallelComp do otherwise on InfiniteBench: labels taken apart into characters",
    source="the rules of UNComp's eval_infinitebench.py in our own words; their code has no licence and is not used",
    metrics={
        "longbook_qa_eng": Metric(name="word F1", function=character_as_answer),
        "longdialogue_qa_eng": Metric(name="accuracy", function=initial_among_words),
    },
)
