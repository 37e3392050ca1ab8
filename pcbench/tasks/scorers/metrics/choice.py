"""Which of four options a prediction chose, by the rules of June and of August 2024.

Answers are [text, letter]; a record of one text only is right where the text is chosen.
"""

import re
from collections.abc import Sequence
from typing import Any

from pcbench.tasks.scorers.metrics.found import spaced

__all__ = ["debug_choice", "debug_choice_last_letter", "option_choice", "option_choice_last_letter"]

DEBUG_LEADS = ("answer is:", "is:", "answer:", "correct option is:")
OPTION_LEADS = ("answer is:", "answer:", "answer is", "option is")
LAST_DEBUG_LETTER = re.compile(r"\b[A-J]\b(?!.*\b[A-J]\b)")
LAST_OPTION_LETTER = re.compile(r"\b[A-D]\b(?!.*\b[A-D]\b)")


def debug_choice(prediction: str, answers: Sequence[Any]) -> float:
    """1 for a prediction that starts with the letter and "." or ":", or names letter or function after a lead.

    Source: Code.Debug of InfiniteBench, arXiv:2402.13718, June 2024.
    """
    name, letter = (str(answer) for answer in answers[:2])
    if prediction.strip()[:2] in (f"{letter}.", f"{letter}:"):
        return 1.0
    return float(bool(_after_lead(_bare(prediction), DEBUG_LEADS, (letter, name))))


def debug_choice_last_letter(prediction: str, answers: Sequence[Any]) -> float:
    """1 where the last lone letter of the first line that has one is right, or a start or a lead names letter or name.

    Source: Code.Debug of InfiniteBench, August 2024.
    """
    name, letter = (str(answer) for answer in answers[:2])
    last = LAST_DEBUG_LETTER.search(prediction.strip())
    if last is not None and last.group() == letter:
        return 1.0
    bare = _bare(prediction)
    return float(bare.startswith((letter, name)) or bool(_after_lead(bare, DEBUG_LEADS, (letter, name))))


def option_choice(prediction: str, answers: Sequence[Any]) -> float:
    """1 where the first character, else the whole text, else what follows a lead, else the first lone letter is right.

    Source: En.MC of InfiniteBench, June 2024.
    """
    options = [str(answer) for answer in answers]
    text = prediction.strip()
    if not text:
        return 0.0
    if text[0] in "ABCD":
        return float(text[0] in options)
    if text in options:
        return 1.0
    plain = re.sub(" +", " ", spaced(text, "\n\"'.,?!{}"))
    led = _after_lead(plain, OPTION_LEADS, options)
    if led is not None:
        return float(led)
    lone = next((word for word in plain.split() if word in "ABCD"), "")
    return float(lone in options)


def option_choice_last_letter(prediction: str, answers: Sequence[Any]) -> float:
    """1 where the last lone letter of the first line that has one is right, else by the rules of June.

    Source: En.MC of InfiniteBench, August 2024.
    """
    last = LAST_OPTION_LETTER.search(prediction.strip())
    if last is not None and last.group() in [str(answer) for answer in answers]:
        return 1.0
    return option_choice(prediction, answers)


def _bare(prediction: str) -> str:
    """Marks and the word option become spaces, runs of spaces one."""
    text = spaced(prediction.strip(), "\n`'\"-*").replace("Option", " ").replace("option", " ")
    return re.sub(" +", " ", text)


def _after_lead(text: str, leads: Sequence[str], right: Sequence[str]) -> bool | None:
    """Whether a right word follows the first of `leads` that occurs, one character later; None without a lead."""
    for lead in leads:
        _, found, after = text.partition(lead)
        if found:
            return bool(after) and after[1:].startswith(tuple(right))
    return None
