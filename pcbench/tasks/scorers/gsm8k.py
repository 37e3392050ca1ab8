"""GSM8K: is the final number right?"""

import re
from collections.abc import Sequence
from decimal import Decimal

from pcbench.tasks.scorers import EVERY, Metric, Scorer

__all__ = ["gsm8k"]

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")


def final_number_equals(prediction: str, answers: Sequence[str]) -> float:
    """1 where the prediction's final number is the final number of one of the answers.

    The final number is the first one after the last "####", else the last one; thousands separators do not count.
    """
    return float(_final_number(prediction) in right_numbers(answers))


def right_numbers(answers: Sequence[str]) -> list[Decimal]:
    """The final numbers of the answers.

    Raises:
        ValueError: none has one.
    """
    found = [number for answer in answers if (number := _final_number(answer)) is not None]
    if not found:
        raise ValueError("no number in it")
    return found


def _final_number(text: str) -> Decimal | None:
    _, mark, tail = text.rpartition("####")
    marked = NUMBER.search(tail) if mark else None
    number = marked.group() if marked else next(iter(NUMBER.findall(text)[::-1]), None)
    return None if number is None else Decimal(number.replace(",", ""))


gsm8k = Scorer(
    id="gsm8k",
    version=1,
    summary="1 where the final number is right: after ####, else the last one",
    source="the answer format of GSM8K, arXiv:2110.14168; the last number where the mark is missing is ours",
    metrics={EVERY: Metric(name="exact match", function=final_number_equals, reads=right_numbers)},
)
