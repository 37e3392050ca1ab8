"""Class names and paragraph numbers in a prediction."""

import re
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["class_share", "first_line", "number_share", "right_numbers"]

DIGITS = re.compile(r"\d+")


def class_share(prediction: str, answers: Sequence[Any], classes: Sequence[str]) -> float:
    """1 over the number of class names in the prediction, where the right one is among them.

    A class whose name is a part of the right one is not counted, but the class found right after such a one is never
    looked at: published scores rest on it.

    Source: classification_score of LongBench, arXiv:2308.14508.
    """
    return max((_class_share(prediction, str(answer), classes) for answer in answers), default=0.0)


def _class_share(prediction: str, answer: str, classes: Sequence[str]) -> float:
    counted: list[str] = []
    spare_next = False
    for name in (name for name in classes if name in prediction):
        part_of_answer = name in answer and name != answer
        if spare_next or not part_of_answer:
            counted.append(name)
            spare_next = False
        else:
            spare_next = True
    return 1 / len(counted) if answer in counted else 0.0


def number_share(label: str = "") -> Callable[[str, str], float]:
    """Prediction, answer → the share of its numbers that are the right one, digit by digit.

    Args:
        label: what stands before the number in the answer, as in "Paragraph 7".

    Source: count_score and retrieval_score of LongBench.
    """

    labelled = re.compile(re.escape(label) + r"(\d+)")

    def share(prediction: str, answer: str) -> float:
        right = labelled.search(answer)
        numbers = DIGITS.findall(prediction)
        return numbers.count(right.group(1)) / len(numbers) if right and numbers else 0.0

    return share


def right_numbers(label: str = "") -> Callable[[Sequence[Any]], list[str]]:
    """Answers → the numbers in them, with the label of `number_share`; a ValueError where no answer has one."""
    labelled = re.compile(re.escape(label) + r"(\d+)")

    def numbers(answers: Sequence[Any]) -> list[str]:
        found = [right[1] for answer in answers if (right := labelled.search(str(answer)))]
        if not found:
            raise ValueError(f"no number after {label!r}")
        return found

    return numbers


def first_line(function: Callable[..., float]) -> Callable[..., float]:
    """The same for the prediction's first line, after leading newlines."""

    def cut(prediction: str, *rest: Any) -> float:
        return function(prediction.lstrip("\n").split("\n")[0], *rest)

    return cut
