"""Greedy decoding, the same loop for every method."""

import time
from dataclasses import dataclass
from typing import Any

import torch

from pcbench.types import Method, Prefilled

__all__ = ["Answered", "decode"]


@dataclass(frozen=True)
class Answered:
    """Token ids of the answer and milliseconds of each step after the first token; `ended`: by a token that ends it."""

    tokens: list[int]
    step_ms: list[float]
    ended: bool


def decode(
    method: Method,
    prefilled: Prefilled,
    new_tokens: int,
    eos_ids: tuple[int, ...],
    device: Any,
    stop_ids: tuple[int, ...] = (),
) -> Answered:
    """Takes the most likely token up to `new_tokens` times, or until one that ends the answer.

    Args:
        method, prefilled: after its prefill.
        new_tokens: at most.
        eos_ids: the model's ends.
        device: of the tokens.
        stop_ids: the task's ends; where it has some, an answer has at least one other token.
    """
    ends = (*eos_ids, *stop_ids)
    first = prefilled.logits
    if stop_ids:
        first = first.index_fill(-1, torch.tensor(ends, device=device), -torch.inf)
    tokens, times = [int(first.argmax(-1))], []
    while len(tokens) < new_tokens and tokens[-1] not in ends:
        start = time.perf_counter()
        logits = method.step(prefilled, torch.tensor(tokens[-1:], device=device))
        # reading the token waits for the device
        tokens.append(int(logits.argmax(-1)))
        times.append((time.perf_counter() - start) * 1e3)
    return Answered(tokens, times, tokens[-1] in ends)
