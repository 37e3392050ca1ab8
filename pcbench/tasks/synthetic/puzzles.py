"""InfiniteBench's generated tasks whose answer is worked out: pairs, numbers, sums, programs. Seeded, exact."""

import random
from collections.abc import Iterator
from itertools import chain, count
from statistics import median

from pcbench.tasks.base import Example, Request
from pcbench.tasks.synthetic.frame import Frame
from pcbench.tasks.synthetic.keys import identifier

__all__ = ["calculation", "extremes", "pairs", "program"]

EXTREMES = (
    *("largest number", "second largest number", "third largest number"),
    *("smallest number", "second smallest number", "third smallest number", "median"),
)
LEVELS = (2, 4, 6, 8, 10)
# numbers of functions, of long programs as many as tokens, which are always enough
NUMBERS = 10_000


def pairs(request: Request) -> Example:
    """One object of random identifiers, a pair a line; the value of one key is asked.

    Source: Retrieve.KV of InfiniteBench, arXiv:2402.13718, after "Lost in the Middle", arXiv:2307.03172; as many
        pairs as fit and a random depth are ours.
    """
    rng = random.Random(request.id)
    key, value, depth = identifier(rng), identifier(rng), rng.random()
    frame = Frame(request, request.task.question.format(key=key))
    encode = request.tokenizer.encode
    opening, closing, asked = encode("{\n"), encode("}\n"), encode(_pair(key, value))
    reserved = len(opening) + len(closing) + len(asked)
    frame.require(reserved)
    others = frame.fitting((encode(_pair(identifier(rng), identifier(rng))) for _ in count()), reserved)
    place = int(depth * (len(others) + 1))
    before = [*opening, *chain(*others[:place])]
    context = [*before, *asked, *chain(*others[place:]), *closing]
    return frame.example(context, [value], (len(before), len(before) + len(asked)))


def _pair(key: str, value: str) -> str:
    return f'"{key}": "{value}",\n'


def extremes(request: Request) -> Example:
    """Integers from 0 to 99; the median or one of the three largest or smallest different ones is asked.

    Source: Math.Find of InfiniteBench; as many numbers as fit are ours.
    """
    rng = random.Random(request.id)
    kind = request.index % len(EXTREMES)
    raised = rng.random() < 0.5 if EXTREMES[kind] == "median" else "smallest" in EXTREMES[kind]
    low, high = (rng.randint(0, 19), 99) if raised else (0, rng.randint(79, 99))
    frame = Frame(request, request.task.question.format(what=EXTREMES[kind]))
    tokens = {n: request.tokenizer.encode(f"{n}, ") for n in range(low, high + 1)}
    # a dozen numbers hold three different ones
    frame.require(12 * len(tokens[99 if raised else high]))
    drawn: list[int] = []

    def items() -> Iterator[list[int]]:
        while True:
            drawn.append(rng.randint(low, high))
            yield tokens[drawn[-1]]

    chosen = frame.fitting(items())
    numbers = drawn[: len(chosen)]
    ranked = sorted(set(numbers), reverse="largest" in EXTREMES[kind])
    answer = median(numbers) if EXTREMES[kind] == "median" else ranked[kind % 3]
    return frame.example([*chain(*chosen)], [f"{answer:g}"])


def calculation(request: Request) -> Example:
    """Additions and subtractions whose running value stays within 0…99; every running value after the first counts.

    Source: Math.Calc of InfiniteBench; as many terms as fit are ours.
    """
    rng = random.Random(request.id)
    frame = Frame(request, request.task.question)
    encode = request.tokenizer.encode
    values = [rng.randint(0, 99)]

    def terms() -> Iterator[list[int]]:
        yield encode(str(values[0]))
        while True:
            added = rng.random() < 0.5
            term = rng.randint(0, 99 - values[-1] if added else values[-1])
            values.append(values[-1] + term if added else values[-1] - term)
            yield encode(f" {'+' if added else '-'} {term}")

    frame.require(len(encode("10 + 10")))
    chosen = frame.fitting(terms())
    return frame.example([*chain(*chosen)], [str(value) for value in values[1 : len(chosen)]])


def program(request: Request) -> Example:
    """Functions that add a constant to what one of the next level returns; the value of a call is asked.

    Source: Code.Run of InfiniteBench; as many functions as fit are ours.
    """
    levels = LEVELS[request.index % len(LEVELS)]
    rng = random.Random(request.id)
    numbers = range(1, max(NUMBERS, request.context_tokens))
    asked, argument = rng.choice(numbers), rng.randint(-10, 10)
    frame = Frame(request, request.task.question.format(call=f"func_{asked}({argument})"))
    size = frame.fitting_size(lambda size: _program(request.id, levels, size, numbers, asked)[0], 1)
    text, added = _program(request.id, levels, size, numbers, asked)
    return frame.example(request.tokenizer.encode(text), [str(argument + added)])


def _program(seed: str, levels: int, size: int, numbers: range, asked: int) -> tuple[str, int]:
    """`size` functions on each level in random order, and what the asked one, of the first level, adds."""
    rng = random.Random(f"{seed}/{size}")
    ids = [asked, *(i for i in rng.sample(numbers, levels * size) if i != asked)]
    added: dict[int, int] = {}
    texts = []
    for level in reversed(range(levels)):
        for number in ids[level * size : (level + 1) * size]:
            called = rng.choice(ids[(level + 1) * size : (level + 2) * size]) if level + 1 < levels else None
            constant = rng.randint(-12, 17)
            added[number] = constant + (0 if called is None else added[called])
            inner = "x" if called is None else f"func_{called}(x)"
            texts.append(
                f"def func_{number}(x):\n    return {inner} {'-' if constant < 0 else '+'} {abs(constant)}\n\n"
            )
    rng.shuffle(texts)
    return "".join(texts), added[asked]
