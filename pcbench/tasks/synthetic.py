"""Needles in generated contexts: seeded, offline, exact to the token."""

import random
from collections.abc import Iterable
from functools import cache
from itertools import cycle, islice

from pcbench.errors import ConfigError
from pcbench.tasks.base import Example, Request

__all__ = ["noise", "prose"]

# the noise line of InfiniteBench's passkey recipe (github.com/OpenBMB/InfiniteBench, MIT)
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"


def noise(request: Request) -> Example:
    """A key at a seeded depth of one repeated line.

    Source: Retrieve.PassKey of InfiniteBench, arXiv:2402.13718; one key a prompt and a random depth are ours.
    """
    return _hide(request, cycle([NOISE]), _random(request))


def prose(request: Request) -> Example:
    """The same needle between lines of CPython's documentation, read from a seeded line on."""
    rng = _random(request)
    lines = _documentation()
    start = rng.randrange(len(lines))
    return _hide(request, islice(cycle(lines), start, None), rng)


def _random(request: Request) -> random.Random:
    return random.Random(request.id)


@cache
def _documentation() -> list[str]:
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics)).splitlines(keepends=True)


def _hide(request: Request, lines: Iterable[str], rng: random.Random) -> Example:
    """Puts the needle at the line start nearest to a random depth; the last line is cut to the exact length."""
    task, encode = request.task, request.tokenizer.encode
    key = str(rng.randrange(10_000, 100_000))
    prefix = [*request.tokenizer.start_ids, *encode(task.instruction)]
    query = encode(task.question)
    needle = encode(task.needle.format(key=key))
    room = request.context_tokens - len(prefix) - len(query) - request.new_tokens - len(needle)
    if room < 0:
        least = request.context_tokens - room
        raise ConfigError(
            f"context_tokens: at least {least} for task {request.name}, got {request.context_tokens}; make it longer"
        )
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
    return Example(
        id=request.id,
        task=request.name,
        prefix=tuple(prefix),
        context=tuple(hay[:start] + needle + hay[start:room]),
        query=tuple(query),
        answers=(key,),
        key_span=(start, start + len(needle)),
        new_tokens=request.new_tokens,
    )
