"""Is the answer in the prediction: digits, words, numbers, the start of a list."""

import re
from collections.abc import Sequence
from typing import Any

__all__ = [
    "any_name_found",
    "first_digits_equal",
    "first_integer",
    "first_name_among_words",
    "first_number",
    "first_number_equals",
    "last_word_equals",
    "right_start",
    "right_start_but_first",
    "word_found",
]

DIGITS = re.compile(r"\d+")
NUMBER = re.compile(r"\d+\.\d+|\d+")
SENTENCE_MARKS = "\n:\"'.,?!{}"


def spaced(text: str, marks: str) -> str:
    """The text with a space in place of every mark."""
    return text.translate({ord(mark): " " for mark in marks})


def first_digits_equal(prediction: str, answers: Sequence[Any]) -> float:
    """1 where the first run of digits is the answer, digit by digit.

    Source: Retrieve.PassKey and Retrieve.Number of InfiniteBench, arXiv:2402.13718.
    """
    found = DIGITS.search(prediction)
    return float(found is not None and found.group() == str(answers[0]))


def word_found(prediction: str, answers: Sequence[Any]) -> float:
    """1 where the answer is one of the prediction's words, punctuation aside.

    Source: Retrieve.KV of InfiniteBench.
    """
    return float(str(answers[0]) in spaced(prediction, SENTENCE_MARKS).split())


def first_name_among_words(prediction: str, answers: Sequence[Any]) -> float:
    """1 where the first name is one of the upper-case words; other names of the same person do not count.

    Source: En.Dia of InfiniteBench, June 2024.
    """
    return float(str(answers[0]) in spaced(prediction, SENTENCE_MARKS).upper().split())


def any_name_found(prediction: str, answers: Sequence[Any]) -> float:
    """1 where the prediction contains any of the names, case aside; an empty name never counts.

    Source: En.Dia of InfiniteBench, August 2024.
    """
    return float(any(answer and str(answer).upper() in prediction.upper() for answer in answers))


def first_number_equals(prediction: str, answers: Sequence[Any]) -> float:
    """1 where the first number, without its sign, is the answer.

    Source: Math.Find of InfiniteBench.
    """
    found = NUMBER.search(prediction)
    return float(found is not None and float(found.group()) == first_number(answers))


def last_word_equals(prediction: str, answers: Sequence[Any]) -> float:
    """1 where the last word is the answer as a whole number, punctuation aside.

    Source: Code.Run of InfiniteBench.
    """
    right = first_integer(answers)
    words = spaced(prediction, "\n.`'\":").split()
    try:
        return float(bool(words) and int(words[-1]) == right)
    except ValueError:
        return 0.0


def first_number(answers: Sequence[Any]) -> float:
    """The first answer as a number.

    Raises:
        ValueError: it is none.
    """
    return float(answers[0])


def first_integer(answers: Sequence[Any]) -> int:
    """The first answer as a whole number.

    Raises:
        ValueError: it is none.
    """
    return int(answers[0])


def right_start(prediction: str, answers: Sequence[Any]) -> float:
    """The share of the answer's numbers before the first wrong one.

    Source: Math.Calc of InfiniteBench.
    """
    return _right_start(DIGITS.findall(prediction), answers)


def right_start_but_first(prediction: str, answers: Sequence[Any]) -> float:
    """The same without the prediction's first number, which repeats the first operand.

    Source: Math.Calc of InfiniteBench, for its GPT-4 prompt.
    """
    return _right_start(DIGITS.findall(prediction)[1:], answers)


def _right_start(numbers: Sequence[str], answers: Sequence[Any]) -> float:
    right = 0
    for number, answer in zip(numbers, answers, strict=False):
        # as text: Python refuses to read thousands of digits
        if (number.lstrip("0") or "0") != str(answer):
            break
        right += 1
    return right / len(answers)
