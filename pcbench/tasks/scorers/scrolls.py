"""SCROLLS in a few shots: the first answer of a prediction, before a model goes on with questions of its own."""

from collections.abc import Callable, Sequence
from typing import Any

from pcbench.tasks.scorers import Metric, Scorer, best
from pcbench.tasks.scorers.metrics.overlap import normal_words, word_f1
from pcbench.tasks.scorers.metrics.rouge import rouge_geometric_mean

__all__ = ["scrolls"]


def exact_match(prediction: str, answer: str) -> float:
    """1 where the words are the same, lower-case, without punctuation and articles.

    Source: exact_match of SCROLLS, arXiv:2201.03533; SQuAD's measure.
    """
    given = normal_words(prediction)
    return float(bool(given) and given == normal_words(answer))


def first_answer(function: Callable[[str, Sequence[Any]], float]) -> Callable[[str, Sequence[Any]], float]:
    """The same for the first part of a prediction, divided at "Question:", that holds more than a letter.

    Source: test_few_shot.py of github.com/HKUNLP/ChunkLlama.
    """

    def cut(prediction: str, answers: Sequence[Any]) -> float:
        parts = prediction.split("Question:")
        return function(next((part for part in parts if len(part.replace("\n", "")) > 1), prediction), answers)

    return cut


F1 = Metric(name="word F1", function=first_answer(best(word_f1)))

scrolls = Scorer(
    id="scrolls",
    version=1,
    summary="SCROLLS: F1, exact match, geometric mean of ROUGE-1, -2 and -L, of what stands before the next Question:",
    source="SCROLLS, arXiv:2201.03533; the published ROUGE is the geometric mean of three means over all records, "
    "which is at least the mean over records that stands here",
    metrics={
        "narrativeqa": F1,
        "qasper": F1,
        "quality": Metric(name="exact match", function=first_answer(best(exact_match))),
        "qmsum": Metric(name="ROUGE geometric mean", function=first_answer(rouge_geometric_mean)),
    },
    benchmark="scrolls",
)
