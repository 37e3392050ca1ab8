"""Greedy decoding, the same loop for every method."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from pcbench.measure.steps import Alike, Launched, Logged, NotCaptured, Replayed, Steps
from pcbench.types import Method, Prefilled, Prompt, no_stages

__all__ = ["Answered", "decode", "replaying"]

# tokens whose replayed steps are held against launched ones
HELD = 16
# how far their largest logits may be off, of them; four roundings where those are coarser
NEAREST = 1e-4


@dataclass(frozen=True)
class Answered:
    """What decoding gave.

    Args:
        tokens: ids of the answer.
        step_ms: milliseconds of each step after the first token; of replayed ones without those that a graph needs.
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
    steps: Steps | None = None,
) -> Answered:
    """Takes the most likely token up to `new_tokens` times, or until one that ends the answer.

    Args:
        method, prefilled: after its prefill.
        new_tokens: at most.
        eos_ids: the model's ends.
        device: of the tokens.
        stop_ids: the task's ends; where it has some, an answer has at least one other token.
        is_whole: whether these tokens are all of an answer, though none of them is an end; its time counts for no step.
        steps: how the method's are made; None launches them.
    """
    ends, steps = (*eos_ids, *stop_ids), steps or Launched(method, prefilled)
    first = prefilled.logits
    if stop_ids:
        first = first.index_fill(-1, torch.tensor(ends, device=device), -torch.inf)
    token = first.argmax(-1)
    tokens, times, largest = [int(token)], [], [prefilled.logits.amax(-1)]
    while not (ended := tokens[-1] in ends or is_whole(tokens)) and len(tokens) < new_tokens:
        counts = steps.prepare(token)
        start = time.perf_counter()
        logits = steps(token)
        token = logits.argmax(-1)
        # reading the token waits for the device
        tokens.append(int(token))
        if counts:
            times.append((time.perf_counter() - start) * 1e3)
        largest.append(logits.amax(-1))
    return Answered(tokens, times, ended, largest)


def replaying(method: Method, prompt: Prompt, device: Any, *, stock: bool) -> Alike:
    """How steps of a method are replayed; two prefills.

    Args:
        method: on its backend.
        prompt: of the cell.
        device: a GPU.
        stock: it is stock code, whose steps may differ.

    Raises:
        NotCaptured: they cannot be graphs, or replayed ones give other tokens or logits than launched ones.
    """
    new_tokens = min(HELD, prompt.new_tokens)
    prefilled = method.prefill(prompt, no_stages)
    logged = Logged(method, prefilled)
    launched = decode(method, prefilled, new_tokens, (), device, steps=logged)
    alike = logged.alike(stock=stock)
    prefilled = method.prefill(prompt, no_stages)
    replayed = decode(method, prefilled, new_tokens, (), device, steps=Replayed(method, prefilled, alike))
    pairs = enumerate(zip(launched.tokens, replayed.tokens, strict=True), 1)
    differing = next((i for i, (one, other) in pairs if one != other), None)
    if differing is not None:
        raise NotCaptured(f"token {differing} is another one where steps are replayed than where they are launched")
    # a model that repeats a token has it for stale keys too
    one, other = torch.cat(launched.largest), torch.cat(replayed.largest)
    near = max(NEAREST, 4 * torch.finfo(one.dtype).eps)
    if not torch.allclose(one, other, rtol=near, atol=0.0, equal_nan=True):
        off = int((one - other).abs().argmax()) + 1
        raise NotCaptured(f"the logits of token {off} are others where steps are replayed than where they are launched")
    return alike
