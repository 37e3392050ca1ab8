"""Needles in generated contexts: seeded, offline, exact to the token."""

import random
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import cycle, islice

from pcbench.tasks.base import Example, Request
from pcbench.tasks.frame import Frame
from pcbench.tasks.keys import KEYS

__all__ = ["NOISE", "needles", "noise", "prose"]

# the noise line of InfiniteBench's passkey recipe (github.com/OpenBMB/InfiniteBench, MIT)
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"


def noise(request: Request) -> Example:
    """A key at a seeded depth of one repeated line.

    Source: Retrieve.PassKey and Retrieve.Number of InfiniteBench, arXiv:2402.13718, and niah_single_1 of RULER,
        arXiv:2404.06654; one key a prompt and a random depth are ours.
    """
    rng = _random(request)
    return _hide(request, cycle([NOISE]), _name(request, rng), rng)


def prose(request: Request) -> Example:
    """The same needle between lines of CPython's documentation, read from a seeded line on."""
    rng = _random(request)
    lines = _documentation()
    start = rng.randrange(len(lines))
    return _hide(request, islice(cycle(lines), start, None), _name(request, rng), rng)


def needles(request: Request) -> Example:
    """A needle among others of its kind, none of which has its name.

    Source: niah_multikey_2 and niah_multikey_3 of RULER, arXiv:2404.06654; the random depth is ours.
    """
    rng = _random(request)
    name = _name(request, rng)
    return _hide(request, _other_needles(request, name, random.Random(rng.random())), name, rng)


def _random(request: Request) -> random.Random:
    return random.Random(request.id)


def _name(request: Request, rng: random.Random) -> str:
    return KEYS[request.task.key_name](rng) if request.task.key_name else ""


def _other_needles(request: Request, asked: str, rng: random.Random) -> Iterator[str]:
    while True:
        name = _name(request, rng)
        if name != asked:
            yield request.task.needle.format(name=name, key=KEYS[request.task.key](rng))


@cache
def _documentation() -> list[str]:
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics)).splitlines(keepends=True)


def _hide(request: Request, lines: Iterable[str], name: str, rng: random.Random) -> Example:
    """Puts the needle at the line start nearest to a random depth; the last line is cut to the exact length."""
    task, encode = request.task, request.tokenizer.encode
    key = KEYS[task.key](rng)
    frame = Frame(request, task.question.format(name=name))
    needle = encode(task.needle.format(name=name, key=key))
    frame.require(len(needle))
    room = frame.room - len(needle)
    hay: list[int] = []
    line_starts = [0]
    encode_line = cache(encode)
    for line in lines:
        if len(hay) >= room:
            break
        hay += encode_line(line)
        line_starts.append(len(hay))
    depth = rng.random() * room
    start = min((s for s in line_starts if s <= room), key=lambda s: abs(s - depth))
    return frame.example(hay[:start] + needle + hay[start:room], [key], (start, start + len(needle)))
