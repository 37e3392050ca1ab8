"""Layer stages: layers between which the effective rank of the queries drops, and how many tokens each reads."""

from collections.abc import Sequence
from itertools import pairwise

__all__ = ["stage_numbers", "stage_shares", "stage_sizes", "stage_tokens"]


def stage_sizes(curve: Sequence[float], theta: float) -> list[int]:
    """Layers of each stage: a stage begins where the curve falls by more than `theta` from one layer to the next.

    Args:
        curve: of each layer, the effective rank of its queries.
        theta: in the same unit.

    Source: the released code of UNComp (commit b3e9f7b), with theta 1; the paper's thresholds of 0.3 to 0.5 are of
        another scale.
    """
    cuts = [i for i in range(1, len(curve)) if curve[i] - curve[i - 1] < -theta]
    bounds = [0, *cuts, len(curve)]
    return [end - start for start, end in pairwise(bounds)]


def stage_numbers(sizes: Sequence[int]) -> list[int]:
    """The stage of each layer."""
    return [stage for stage, size in enumerate(sizes) for _ in range(size)]


def stage_shares(sizes: Sequence[int], least: float, length: int) -> list[int]:
    """Tokens of each layer: all in the first stage, in equal steps down to `least` of them in the last.

    With `least` 0.375 five stages are 1, 0.84, 0.69, 0.53 and 0.375, of 4096 tokens as in the released code.
    """
    last = max(1, len(sizes) - 1)
    return [round(length * (1 - (1 - least) * stage / last)) for stage in stage_numbers(sizes)]


def stage_tokens(sizes: Sequence[int], whole: int, least: int) -> list[int]:
    """Tokens of each layer whatever the prompt's length: `whole` in the first stage, `least` in the last.

    The step is rounded down, as in the released code, whose `least` is 1536.
    """
    last = len(sizes) - 1
    if last == 0:
        return [whole] * sizes[0]
    step = (whole - least) // last
    return [least + step * (last - stage) for stage in stage_numbers(sizes)]
