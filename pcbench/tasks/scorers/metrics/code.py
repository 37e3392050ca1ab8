"""How alike a predicted line of code and the right one are."""

from collections.abc import Callable
from difflib import SequenceMatcher

__all__ = [
    "by_difflib",
    "by_indel",
    "by_indel_unrounded",
    "first_code_line",
    "first_written_line",
    "line_similarity",
    "stripped_code_line",
]

COMMENT_MARKS = ("`", "#", "//")

Ratio = Callable[[str, str], float]


def by_indel(line: str, answer: str) -> float:
    """Insertions and deletions, as `rapidfuzz` counts them, rounded to a whole percent as the original library did."""
    return round(100 * by_indel_unrounded(line, answer)) / 100


def by_indel_unrounded(line: str, answer: str) -> float:
    """The same, not rounded."""
    from rapidfuzz.fuzz import ratio

    return float(ratio(line, answer)) / 100


def by_difflib(line: str, answer: str) -> float:
    """Matching blocks, as `difflib` finds them, rounded to a whole percent: the original library without its extra."""
    return round(100 * SequenceMatcher(None, line, answer).ratio()) / 100


def first_code_line(prediction: str) -> str:
    """The first line without backtick, `#` or `//`, after leading newlines; a blank one counts; empty for none.

    Source: code_sim_score of LongBench, arXiv:2308.14508.
    """
    lines = prediction.lstrip("\n").split("\n")
    return next((line for line in lines if not any(mark in line for mark in COMMENT_MARKS)), "")


def first_written_line(prediction: str) -> str:
    """The same, blank lines skipped.

    Source: LongBench in lm-evaluation-harness, version 6 of its tasks.
    """
    return first_code_line("\n".join(line for line in prediction.split("\n") if line.strip()))


def stripped_code_line(prediction: str) -> str:
    """The same after all leading white space, so that the first line loses its indentation.

    Source: LongBench in kvpress.
    """
    return first_code_line(prediction.lstrip())


def line_similarity(ratio: Ratio, line_of: Callable[[str], str] = first_code_line) -> Ratio:
    """Prediction, answer → the ratio of the chosen line of the prediction to the answer."""

    def similarity(prediction: str, answer: str) -> float:
        return ratio(line_of(prediction), answer)

    return similarity
