"""Keys that a prompt hides, drawn from a seeded generator; the same under every version of Python."""

import random
import uuid
from collections.abc import Callable
from itertools import product

__all__ = ["KEYS", "pseudo_words"]

ADJECTIVES = (
    *("amber", "brave", "calm", "dusty", "eager", "faint", "gentle", "hollow", "icy", "jolly", "keen", "lively"),
    *("mellow", "narrow", "odd", "polite", "quiet", "rapid", "silver", "tidy", "upper", "vivid", "warm", "young"),
)
NOUNS = (
    *("anchor", "basket", "candle", "desert", "engine", "forest", "garden", "harbor", "island", "jacket", "kettle"),
    *("ladder", "meadow", "needle", "orchard", "pencil", "quarry", "river", "saddle", "tunnel", "umbrella", "valley"),
    *("window", "yard", "bridge", "castle", "dragon", "falcon", "hammer", "lantern", "mirror", "pepper", "rocket"),
)
SYLLABLES = tuple(consonant + vowel for consonant, vowel in product("bdfgklmnprstvz", "aeiou"))


def five_digits(rng: random.Random) -> str:
    """A number from 10000 to 99999."""
    return str(rng.randrange(10_000, 100_000))


def seven_digits(rng: random.Random) -> str:
    """A number from 1000000 to 9999999."""
    return str(rng.randrange(1_000_000, 10_000_000))


def repeated_digits(rng: random.Random) -> str:
    """Five digits, then five times one of the digits doubled in its place.

    Source: Retrieve.Number of InfiniteBench, arXiv:2402.13718.
    """
    digits = [rng.choice("0123456789") for _ in range(5)]
    for _ in range(5):
        place = rng.randrange(len(digits))
        digits.insert(place, digits[place])
    return "".join(digits)


def identifier(rng: random.Random) -> str:
    """A random UUID."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def word_pair(rng: random.Random) -> str:
    """An adjective and a noun, 792 of them."""
    return f"{rng.choice(ADJECTIVES)}-{rng.choice(NOUNS)}"


def pseudo_words(rng: random.Random, count: int) -> list[str]:
    """Different made-up words of three syllables, at most 343,000."""
    return ["".join(SYLLABLES[(n // 70**i) % 70] for i in range(3)) for n in rng.sample(range(70**3), count)]


KEYS: dict[str, Callable[[random.Random], str]] = {
    "five digits": five_digits,
    "seven digits": seven_digits,
    "repeated digits": repeated_digits,
    "identifier": identifier,
    "word pair": word_pair,
}
