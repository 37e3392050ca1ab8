"""GSM8K: is the final number right?"""

import re
from collections.abc import Sequence
from decimal import Decimal

from pcbench.tasks.scorers import EVERY, Metric, Scorer

__all__ = ["final_number", "gsm8k"]

MINUS = "[-\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{FIGURE DASH}\N{EN DASH}\N{MINUS SIGN}]"
CURRENCY = "[$\N{EURO SIGN}\N{POUND SIGN}]"
# what stands between thousands besides commas
QUOTES = "'\N{RIGHT SINGLE QUOTATION MARK}"
SPACES = " \N{NO-BREAK SPACE}\N{THIN SPACE}\N{NARROW NO-BREAK SPACE}"


def _number(gaps: str) -> re.Pattern[str]:
    """A number whose thousands have one of `gaps` or a comma between them."""
    whole = rf"[0-9]{{1,3}}(?:[{gaps}][0-9]{{3}})+(?![0-9])|[0-9][0-9,]*"
    # a dash behind a letter or a number is no sign
    return re.compile(
        rf"(?P<sign>(?<![\w)]){MINUS})?(?:{CURRENCY} ?(?P<later_sign>{MINUS})?)?"
        rf"(?P<number>(?:{whole})(?:\.[0-9]+)?|(?<![0-9])\.[0-9]+)"
    )


# in prose a space may stand between two numbers
NUMBER, MARKED_NUMBER = _number(QUOTES), _number(QUOTES + SPACES)
# signs of bold type and of formulas may stand between the mark and its number
MARK = re.compile(r"####[\s*\\(\[]*")


def final_number_equals(prediction: str, answers: Sequence[str]) -> float:
    """1 where the prediction's final number is the final number of one of the answers."""
    return float(final_number(prediction) in right_numbers(answers))


def right_numbers(answers: Sequence[str]) -> list[Decimal]:
    """The final numbers of the answers.

    Raises:
        ValueError: none has one.
    """
    found = [number for answer in answers if (number := final_number(answer)) is not None]
    if not found:
        raise ValueError("no number in it")
    return found


def final_number(text: str) -> Decimal | None:
    """The number behind the first "####" that has one right behind it, else the last number; None without any.

    Dollar signs and what separates thousands do not count: 70,000, 70'000; -$5 and $-5 are both −5. A space separates
    them behind the mark only: "#### 70 000" is 70000, and "3 100" in prose two numbers.
    """
    marked = (MARKED_NUMBER.match(text, mark.end()) for mark in MARK.finditer(text))
    found = next(filter(None, marked), None) or next(iter([*NUMBER.finditer(text)][::-1]), None)
    if found is None:
        return None
    number = Decimal(re.sub(f"[{QUOTES}{SPACES},]", "", found["number"]))
    return -number if found["sign"] or found["later_sign"] else number


gsm8k = Scorer(
    id="gsm8k",
    version=2,
    summary="1 where the final number is right: after the first ####, else the last one",
    source="the answer format and the first match of GSM8K's grader, arXiv:2110.14168; the last number where the mark "
    "is missing, signs of currency and gaps between thousands are ours, spaces only behind the mark",
    metrics={EVERY: Metric(name="exact match", function=final_number_equals, reads=right_numbers)},
    benchmark="gsm8k",
)
