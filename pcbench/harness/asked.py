"""What a caller asks, as text or token ids → a prompt."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from pcbench.errors import ConfigError
from pcbench.types import Prompt, Tokenizer

__all__ = ["Asked", "Ids", "Spans", "ask"]

# what names a text
Ids = Sequence[int] | Tensor
Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Asked:
    """A prompt, and where its context's tokens are in what was given.

    Args:
        prompt: for a method.
        skipped: ids at the beginning of the given context that are the prompt's prefix.
        bounds: of a text, where each token of the context begins and the text ends; None for ids.
    """

    prompt: Prompt
    skipped: int
    bounds: list[int] | None

    def tokens(self, span: tuple[int, int]) -> tuple[int, int]:
        """A span of the prompt's context in the given ids."""
        return span[0] + self.skipped, span[1] + self.skipped

    def characters(self, span: tuple[int, int]) -> tuple[int, int] | None:
        """A span of the prompt's context in the given text; None for ids."""
        return None if self.bounds is None else (self.bounds[span[0]], self.bounds[span[1]])


def ask(
    tokenizer: Tokenizer, context: str | Ids, question: str | Ids, chunks: Spans | None, new_tokens: int, *,
    vocab: int, device: torch.device,
) -> Asked:  # fmt: skip
    """Makes a prompt of a question to a context, each a text or ids.

    The ids with which the tokenizer begins a text are the prefix, once: a context of ids may begin with them.

    Args:
        tokenizer: of the model.
        context, question, chunks, new_tokens: as `pcbench.answer` takes them.
        vocab: ids are below it.
        device: of the prompt.

    Raises:
        ConfigError: neither text nor ids, no answer asked for, or chunks that do not divide the context.
    """
    if isinstance(new_tokens, bool) or not isinstance(new_tokens, int) or new_tokens < 1:
        raise ConfigError(f"answer: new_tokens: a number of at least 1, got {new_tokens!r}; an answer has a token")
    start = tokenizer.start_ids
    if isinstance(context, str):
        ids, starts = tokenizer.encode_with_starts(context)
        # what stands before the first token belongs to it
        bounds = None if starts is None else [0, *starts[1:], len(context)] if ids else [0]
        skipped, size = 0, len(context)
    else:
        ids, bounds = _ids("context", context, vocab), None
        size, skipped = len(ids), len(start) if start and ids[: len(start)] == start else 0
        ids = ids[skipped:]
    asked = tokenizer.encode(question) if isinstance(question, str) else _ids("question", question, vocab)
    prefix, read, query = (torch.tensor(x, dtype=torch.int64, device=device) for x in (start, ids, asked))
    spans = None
    if chunks is not None:
        ends = [end for _, end in _divided(chunks, size)]
        if isinstance(context, str):
            spans = _started(bounds, ends)
        else:
            spans = [*pairwise([0, *(end - skipped for end in ends)])]
        _check_filled(spans)
    characters = bounds[:-1] if bounds else None
    more: Any = {"start_tokens": len(start), "characters": characters, "spans": spans}
    prompt = Prompt(prefix, read, query, new_tokens=new_tokens, **more)
    return Asked(prompt, skipped, bounds)


def _ids(name: str, given: Any, vocab: int) -> list[int]:
    """Ids as a list; a tensor is [N] or [1, N] of integers."""
    if isinstance(given, Tensor) and not given.is_floating_point() and given.dtype != torch.bool:
        given = given[0].tolist() if given.dim() == 2 and len(given) == 1 else given.tolist()
    if not isinstance(given, Sequence) or not all(isinstance(i, int) and not isinstance(i, bool) for i in given):
        raise ConfigError(f"answer: {name}: a text or its token ids, got {_shown(given)}; give one of them")
    for i in given:
        if not 0 <= i < vocab:
            raise ConfigError(f"answer: {name}: token ids of 0…{vocab - 1}, got {i}; use the model's own tokenizer")
    return list(given)


def _shown(given: Any) -> str:
    if isinstance(given, Tensor):
        return f"a tensor {list(given.shape)} of {given.dtype}"
    return f"{type(given).__name__} of other things" if isinstance(given, Sequence) else type(given).__name__


def _divided(chunks: Spans, size: int) -> Spans:
    """The spans, which follow each other from the first place to the last."""
    at = 0
    for start, end in chunks:
        if start != at or end <= start:
            raise ConfigError(
                f"answer: chunks: spans that follow each other from 0 to {size}, got ({start}, {end}) behind {at}; "
                "begin each where the one before ends"
            )
        at = end
    if at != size:
        raise ConfigError(
            f"answer: chunks: spans from 0 to {size}, got the last end at {at}; divide all of the context"
        )
    return chunks


def _started(bounds: list[int] | None, ends: list[int]) -> list[tuple[int, int]]:
    """Spans of the tokens that begin before each of the characters `ends`."""
    if bounds is None:
        raise ConfigError(
            "answer: chunks: a tokenizer that says where tokens begin, got one that does not; give ids and their spans"
        )
    return [*pairwise([0, *(bisect_left(bounds, end, hi=len(bounds) - 1) for end in ends)])]


def _check_filled(spans: list[tuple[int, int]]) -> None:
    for i, (start, end) in enumerate(spans):
        if end <= start:
            raise ConfigError(f"answer: chunks: a token at least in each, got none in chunk {i}; join it to another")
