"""Scorers: pure functions prediction × answers → 0…1, each with a version and a source. No torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Scorer"]


@dataclass(frozen=True)
class Scorer:
    """A scoring function with what must stand beside its numbers.

    Args:
        function: prediction, answers → 0…1.
        version: raised by every change that can move a score.
        score_name: what the number is.
    """

    function: Callable[[str, Sequence[str]], float]
    version: int
    score_name: str

    def __call__(self, prediction: str, answers: Sequence[str]) -> float:
        return self.function(prediction, answers)
