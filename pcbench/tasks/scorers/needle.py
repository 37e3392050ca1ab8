"""Did the answer contain the key?"""

from collections.abc import Sequence

__all__ = ["needle"]


def needle(prediction: str, answers: Sequence[str]) -> float:
    """1 where the prediction contains one of the answers, else 0; an empty answer never counts.

    Source: the contained-key rule of the needle tests, as RULER scores its NIAH tasks, arXiv:2404.06654.
    """
    return float(any(answer and answer in prediction for answer in answers))
