"""Needles in generated contexts: seeded, offline, exact to the token."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain, cycle, islice

from pcbench.tasks.base import Example, Request
from pcbench.tasks.synthetic import documentation
from pcbench.tasks.synthetic.frame import Frame
from pcbench.tasks.synthetic.keys import KEYS

__all__ = ["NOISE", "needles", "noise", "prose", "scattered"]

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
    return _with_version(_hide(request, _prose(rng), _name(request, rng), rng))


def scattered(request: Request) -> Example:
    """Several needles in CPython's documentation, each at a depth of its own.

    Source: niah_multikey_1, niah_multivalue and niah_multiquery of RULER, arXiv:2404.06654; the documentation instead
        of essays and random depths are ours.
    """
    rng, task, encode = _random(request), request.task, request.tokenizer.encode
    lines = _prose(rng)
    names = _different(request, rng, task.asked + task.others)
    asked = names[: task.asked]
    pairs = [(name, KEYS[task.key](rng)) for name in names for _ in range(task.values)]
    frame = Frame(request, task.question.format(name=", ".join(asked)))
    lost = [encode(task.needle.format(name=name, key=key)) for name, key in pairs]
    needed = sum(map(len, lost))
    frame.require(needed)
    room = frame.room - needed
    hay, line_starts = _hay(lines, encode, room)
    places = [_nearest(line_starts, rng.random() * room) for _ in lost]
    parts, done, span = [], 0, (0, 0)
    for i in sorted(range(len(lost)), key=lambda i: places[i]):
        parts += [hay[done : places[i]], lost[i]]
        done = places[i]
        if i == 0:
            end = sum(map(len, parts))
            span = end - len(lost[0]), end
    answers = [key for name, key in pairs if name in asked]
    return _with_version(frame.example([*chain(*parts), *hay[done:room]], answers, span if len(answers) == 1 else None))


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


def _different(request: Request, rng: random.Random, count: int) -> list[str]:
    names: dict[str, None] = {}
    while len(names) < count:
        names[_name(request, rng)] = None
    return list(names)


def _other_needles(request: Request, asked: str, rng: random.Random) -> Iterator[str]:
    while True:
        name = _name(request, rng)
        if name != asked:
            yield request.task.needle.format(name=name, key=KEYS[request.task.key](rng))


def _prose(rng: random.Random) -> Iterator[str]:
    """The documentation's lines without end, from a random one on."""
    lines = documentation.lines()
    return islice(cycle(lines), rng.randrange(len(lines)), None)


def _with_version(example: Example) -> Example:
    """The example, whose `prompts` names the documentation too: another Python may lack a paragraph."""
    return replace(example, prompts=f"{example.prompts}+topics-{documentation.version()}")


def _hide(request: Request, lines: Iterable[str], name: str, rng: random.Random) -> Example:
    """Puts the needle at the line start nearest to the task's depth, else to a random one."""
    task, encode = request.task, request.tokenizer.encode
    key = KEYS[task.key](rng)
    frame = Frame(request, task.question.format(name=name))
    needle = encode(task.needle.format(name=name, key=key))
    frame.require(len(needle))
    room = frame.room - len(needle)
    hay, line_starts = _hay(lines, encode, room)
    start = _nearest(line_starts, (rng.random() if task.depth is None else task.depth) * room)
    return frame.example(hay[:start] + needle + hay[start:], [key], (start, start + len(needle)))


def _hay(lines: Iterable[str], encode: Callable[[str], list[int]], room: int) -> tuple[list[int], list[int]]:
    """Ids of the first lines, the last one cut to the exact length, and where each line begins."""
    hay: list[int] = []
    line_starts = [0]
    encode_line = cache(encode)
    for line in lines:
        if len(hay) >= room:
            break
        hay += encode_line(line)
        line_starts.append(len(hay))
    return hay[:room], [start for start in line_starts if start <= room]


def _nearest(line_starts: Sequence[int], depth: float) -> int:
    return min(line_starts, key=lambda start: abs(start - depth))
