"""Times against what theory expects of them: a linear and a quadratic part in the context length."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["LENGTHS", "Fit", "fit"]

# two lengths fit any line
LENGTHS = 3


@dataclass(frozen=True)
class Fit:
    """time = linear × n + quadratic × n².

    Args:
        linear: milliseconds a token; quadratic: milliseconds a pair of tokens.
        deviation: largest distance of a median from the line, as a share of the median.
        shortest, longest: lengths it was fitted to, in tokens.
    """

    linear: float
    quadratic: float
    deviation: float
    shortest: int
    longest: int

    def ms(self, tokens: float) -> float:
        """What the line says of a length."""
        return self.linear * tokens + self.quadratic * tokens * tokens


def fit(points: Sequence[tuple[int, float]]) -> Fit | None:
    """The line with the smallest relative squared errors and no negative part; None under three lengths.

    Args:
        points: (tokens, milliseconds), each length once.
    """
    if len({tokens for tokens, _ in points}) < LENGTHS:
        return None
    n, ms = (np.array(values, float) for values in zip(*points, strict=True))
    # each equation over its own time: errors count as shares
    parts = np.stack([n / ms, n * n / ms], axis=1)
    ones = np.ones(len(n))
    tried = [np.linalg.lstsq(parts, ones)[0]]
    for only in (0, 1):
        alone = np.zeros(2)
        alone[only] = parts[:, only].sum() / (parts[:, only] ** 2).sum()
        tried.append(alone)
    errors = [(float(((parts @ found - ones) ** 2).sum()), found) for found in tried if (found >= 0).all()]
    best = min(errors, key=lambda pair: pair[0])[1]
    deviation = float(np.abs(parts @ best - ones).max())
    return Fit(float(best[0]), float(best[1]), deviation, int(n.min()), int(n.max()))
