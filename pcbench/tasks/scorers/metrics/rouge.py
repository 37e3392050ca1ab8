"""ROUGE-L by the two packages that published numbers rest on; they differ by ten points and more."""

import sys
from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Any

__all__ = ["rouge_geometric_mean", "rouge_l", "rouge_l_chinese", "rouge_lsum"]

# Python's default limit less the frames of LongBench's own program
FRAMES = 997
# of the geometric mean
KINDS = ("rouge1", "rouge2", "rougeL")


def rouge_l(prediction: str, answer: str) -> float:
    """`rouge-l` "f" of the package `rouge`: sentences end at ".", words count once.

    0 where the package gives up: nothing but full stops on one side, or a sentence pair deeper than Python's
    recursion limit. The depth is counted from this call, so that the score does not depend on the caller.

    Source: rouge_score of LongBench, arXiv:2308.14508; package rouge 1.0.1.
    """
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(_depth() + FRAMES)
    try:
        return float(_rouge().get_scores([prediction], [answer], avg=True)["rouge-l"]["f"])
    except (ValueError, RecursionError, ZeroDivisionError):
        return 0.0
    finally:
        sys.setrecursionlimit(before)


def rouge_l_chinese(prediction: str, answer: str) -> float:
    """The same over the words that jieba finds.

    Source: rouge_zh_score of LongBench.
    """
    from pcbench.tasks.scorers.metrics.chinese import words

    return rouge_l(" ".join(words(prediction)), " ".join(words(answer)))


def rouge_lsum(prediction: str, answers: Sequence[Any]) -> float:
    """`rougeLsum` F of the package `rouge-score` without stemmer; lines are sentences. The first answer counts.

    Source: En.Sum of InfiniteBench, arXiv:2402.13718.
    """
    return float(_rouge_score().score(str(answers[0]), prediction)["rougeLsum"].fmeasure)


def rouge_geometric_mean(prediction: str, answers: Sequence[Any]) -> float:
    """Geometric mean of `rouge1`, `rouge2` and `rougeL` F of the package `rouge-score`, of each the best answer.

    Source: SCROLLS, arXiv:2201.03533.
    """
    found = [_rouge_score().score(str(answer), prediction) for answer in answers]
    best = (max(float(scores[kind].fmeasure) for scores in found) for kind in KINDS)
    return float(prod(best) ** (1 / len(KINDS)))


def _depth() -> int:
    frame, depth = sys._getframe(), 0
    while frame := frame.f_back:  # type: ignore[assignment]
        depth += 1
    return depth


@cache
def _rouge() -> Any:
    from rouge import Rouge

    return Rouge(metrics=["rouge-l"])


@cache
def _rouge_score() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([*KINDS, "rougeLsum"], use_stemmer=False)
