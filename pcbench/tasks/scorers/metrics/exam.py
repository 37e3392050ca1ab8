"""L-Eval's exact match, and the options and verdicts that it compares."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from pcbench.tasks.scorers.metrics.overlap import normal_words

__all__ = ["exam_match", "options_match", "right_options", "verdict_match"]

LETTERS = "ABCD"
# a capital with a space, a full stop or a bracket behind it, as before the text of an option
OPTION_HEAD = re.compile(r"[A-Z](?=[\s.)])")
# what some of several right options are worth
PART = 0.25


def exam_match(prediction: str, gold: str) -> float:
    """1 where a prediction is right.

    A gold of option letters wants the same letters, and some of them are worth 0.25. Another gold wants the same
    number, or to stand in the prediction's first line of more than one character, case and spaces aside. An empty
    prediction is worth 0.

    Source: em.py of L-Eval, arXiv:2307.11088, where an empty one counts as some of the right options.
    """
    letters, given = (" ".join(normal_words(text, lower=False)) for text in (gold, prediction))
    if letters and set(letters) <= set(LETTERS):
        if given == letters:
            return 1.0
        return PART if given and set(given) <= set(letters) else 0.0
    try:
        return float(float(prediction) == float(gold))
    except ValueError:
        lines = prediction.split("\n")
        first = next((line for line in lines if len(line) > 1), prediction)
        wanted = _squeezed(gold)
        return float(bool(wanted) and wanted in _squeezed(first))


def options_match(*, several: bool) -> Callable[[str, Sequence[Any]], float]:
    """Prediction, answers → the best match of the options that the prediction names; several: more may be right."""

    def match(prediction: str, answers: Sequence[Any]) -> float:
        named = _several(prediction) if several else _first(prediction)
        return max((exam_match(named, gold) for gold in right_options(answers)), default=0.0)

    return match


def right_options(answers: Sequence[Any]) -> list[str]:
    """The letters of the first word of each answer that begins with some.

    Raises:
        ValueError: none does.
    """
    heads = (str(answer).split()[:1] for answer in answers)
    found = [letters for head in heads if (letters := re.sub("[^A-D]", "", "".join(head)))]
    if not found:
        raise ValueError("no letter of A to D in its first word")
    return found


def verdict_match(prediction: str, answers: Sequence[Any]) -> float:
    """1 where the first word of the prediction that holds true or false holds the right one.

    Source: auto_eval.py of L-Eval, sci_fi.
    """
    words = prediction.lower().split()
    said = next((verdict for word in words for verdict in ("true", "false") if verdict in word), "")
    return max((exam_match(said, str(answer)) for answer in answers), default=0.0)


def _first(prediction: str) -> str:
    """The first capital A to D, wherever it stands.

    Source: auto_eval.py of L-Eval, quality and tpo.
    """
    return prediction if prediction in LETTERS else next((x for x in prediction if x in LETTERS), "")


def _several(prediction: str) -> str:
    """The letters at the beginning where there are more than one, else also those that head an option.

    Of a prediction without any the first run of letters. What follows "Question" does not count.

    Source: auto_eval.py of L-Eval, coursera.
    """
    if prediction in LETTERS:
        return prediction
    leading = _run(prediction)
    if len(leading) > 1:
        return _sorted(leading)
    rest = prediction[len(leading) :].split("Question")[0]
    heads = OPTION_HEAD.findall(rest)
    named = _sorted(leading + "".join(heads))
    if named:
        return named
    start = next((i for i, letter in enumerate(rest) if letter in LETTERS), len(rest))
    return _run(rest[start:])


def _run(text: str) -> str:
    """The letters A to D that a text begins with."""
    return text[: len(text) - len(text.lstrip(LETTERS))]


def _sorted(letters: str) -> str:
    return "".join(sorted(set(letters) & set(LETTERS)))


def _squeezed(text: str) -> str:
    return text.lower().replace(" ", "")
