"""RULER's tasks beyond needles that need no licensed text: variables, common words, frequent words."""

import random
from itertools import chain

from pcbench.tasks.base import Example, Request
from pcbench.tasks.synthetic.frame import Frame
from pcbench.tasks.synthetic.keys import five_digits, pseudo_words
from pcbench.tasks.synthetic.needles import NOISE

__all__ = ["common_words", "frequent_words", "variables"]

HOPS = 4
# RULER's cwe: how many words come how often
COMMON, COMMON_TIMES, OTHER_TIMES = 10, 30, 3
# fwe: how many words are asked, and the most there are
FREQUENT, RANKS = 3, 1000


def variables(request: Request) -> Example:
    """A value handed from variable to variable between noise lines; all that hold it are asked.

    Source: vt of RULER, arXiv:2404.06654, one chain of four hops; random depths are ours.
    """
    rng = random.Random(request.id)
    value, names = five_digits(rng), [word.upper() for word in pseudo_words(rng, HOPS + 1)]
    frame = Frame(request, request.task.question.format(key=value))
    encode = request.tokenizer.encode
    sources = [value, *(f"VAR {name}" for name in names)]
    chained = [encode(request.task.needle.format(name=n, key=s)) for n, s in zip(names, sources, strict=False)]
    needed = sum(map(len, chained))
    frame.require(needed)
    noise = encode(NOISE)
    lines, rest = divmod(frame.room - needed, len(noise))
    places = sorted(rng.randint(0, lines) for _ in chained)
    parts = [noise] * lines + [noise[:rest]]
    for place, line in zip(reversed(places), reversed(chained), strict=True):
        parts.insert(place, line)
    return frame.example([*chain(*parts)], names)


def common_words(request: Request) -> Example:
    """A numbered list in which ten words come thirty times and all others three times; the ten are asked.

    Source: cwe of RULER; made-up words instead of a word list are ours.
    """
    rng = random.Random(request.id)
    common = pseudo_words(rng, COMMON)
    frame = Frame(request, request.task.question)
    size = frame.fitting_size(lambda size: _word_list(request.id, common, size), 1)
    return frame.example(request.tokenizer.encode(_word_list(request.id, common, size)), common)


def _word_list(seed: str, common: list[str], size: int) -> str:
    """The common words between `size` others."""
    rng = random.Random(f"{seed}/{size}")
    others = [word for word in pseudo_words(rng, size + len(common)) if word not in common][:size]
    words = common * COMMON_TIMES + others * OTHER_TIMES
    rng.shuffle(words)
    return " ".join(f"{place}. {word}" for place, word in enumerate(words, start=1))


def frequent_words(request: Request) -> Example:
    """Made-up words whose frequency falls with the square of their rank; the first three are asked.

    Source: fwe of RULER with alpha 2.0; exact instead of drawn frequencies are ours.
    """
    ranked = pseudo_words(random.Random(request.id), RANKS)
    frame = Frame(request, request.task.question)
    # 36, 9, 4 and 2 times: the least with a clear third
    size = frame.fitting_size(lambda size: _by_rank(request.id, ranked, size), 36)
    return frame.example(request.tokenizer.encode(_by_rank(request.id, ranked, size)), ranked[:FREQUENT])


def _by_rank(seed: str, ranked: list[str], size: int) -> str:
    """The words in random order, the first `size` times."""
    words = [word for rank, word in enumerate(ranked, start=1) for _ in range(size // rank**2)]
    random.Random(f"{seed}/{size}").shuffle(words)
    return " ".join(words)
