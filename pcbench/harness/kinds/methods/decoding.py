"""Greedy decoding, the same loop for every method."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from pcbench.types import Method, Prefilled

__all__ = ["Answered", "decode"]


@dataclass(frozen=True)
class Answered:
    """What decoding gave.

    Args:
        tokens: ids of the answer.
        step_ms: milliseconds of each step after the first token.
        ended: by what ends it, not by the limit.
        largest: of each token the largest logit, [1] on the device; NaN where any logit is.
    """

    tokens: list[int]
    step_ms: list[float]
    ended: bool
    largest: list[torch.Tensor]

    def first_not_finite(self) -> int | None:
        """The first token whose logits hold NaN or +infinity, or nothing else than −infinity; waits for the device."""
        wrong = (~torch.cat(self.largest).isfinite()).nonzero()
        return int(wrong[0]) if len(wrong) else None


def decode(
    method: Method,
    prefilled: Prefilled,
    new_tokens: int,
    eos_ids: tuple[int, ...],
    device: Any,
    stop_ids: tuple[int, ...] = (),
    is_whole: Callable[[list[int]], bool] = lambda tokens: False,
) -> Answered:
    """Takes the most likely token up to `new_tokens` times, or until one that ends the answer.

    Args:
        method, prefilled: after its prefill.
        new_tokens: at most.
        eos_ids: the model's ends.
        device: of the tokens.
        stop_ids: the task's ends; where it has some, an answer has at least one other token.
        is_whole: whether these tokens are all of an answer, though none of them is an end; its time counts for no step.
    """
    ends = (*eos_ids, *stop_ids)
    first = prefilled.logits
    if stop_ids:
        first = first.index_fill(-1, torch.tensor(ends, device=device), -torch.inf)
    tokens, times, largest = [int(first.argmax(-1))], [], [prefilled.logits.amax(-1)]
    while not (ended := tokens[-1] in ends or is_whole(tokens)) and len(tokens) < new_tokens:
        start = time.perf_counter()
        logits = method.step(prefilled, torch.tensor(tokens[-1:], device=device))
        # reading the token waits for the device
        tokens.append(int(logits.argmax(-1)))
        times.append((time.perf_counter() - start) * 1e3)
        largest.append(logits.amax(-1))
    return Answered(tokens, times, ended, largest)
