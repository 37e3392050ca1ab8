"""What a caller asks, as text or token ids → a prompt."""

import operator
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcbench.errors import ConfigError, shown
from pcbench.types import Prompt, Tokenizer

__all__ = ["Asked", "Ids", "Spans", "ask", "check_known"]

# what names a text
Ids = Sequence[int] | Tensor | np.ndarray
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
        ConfigError: neither text nor ids, an empty context, no answer asked for, or chunks that do not divide the
            context.
    """
    (count,) = _whole([new_tokens]) or [0]
    if count < 1:
        raise ConfigError(f"answer: new_tokens: a number of at least 1, got {new_tokens!r}; an answer has a token")
    start = tokenizer.start_ids
    if isinstance(context, str):
        ids, starts = tokenizer.encode_with_starts(context)
        check_known("context", ids, vocab)
        # what stands before the first token belongs to it
        bounds = None if starts is None else [0, *starts[1:], len(context)]
        skipped, size = 0, len(context)
    else:
        ids, bounds = _ids("context", context, vocab), None
        size, skipped = len(ids), len(start) if start and ids[: len(start)] == start else 0
        ids = ids[skipped:]
    if not ids:
        raise ConfigError("answer: context: a token at least to read, got none; give a text")
    asked = _ids("question", tokenizer.encode(question) if isinstance(question, str) else question, vocab)
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
    prompt = Prompt(prefix, read, query, new_tokens=count, **more)
    return Asked(prompt, skipped, bounds)


def _ids(name: str, given: Any, vocab: int) -> list[int]:
    """Ids as a list; a tensor or an array is [N] or [1, N] of integers."""
    listed = given
    if isinstance(given, Tensor | np.ndarray):
        listed = (given[0] if given.ndim == 2 and len(given) == 1 else given).tolist()
    ids = _whole(listed) if isinstance(listed, Sequence) else None
    if ids is None:
        raise ConfigError(f"answer: {name}: a text or its token ids, got {_shown(given)}; give one of them")
    check_known(name, ids, vocab)
    return ids


def check_known(name: str, ids: Sequence[int], vocab: int) -> None:
    for i in ids:
        if not 0 <= i < vocab:
            raise ConfigError(f"answer: {name}: token ids of 0…{vocab - 1}, got {i}; use the model's own tokenizer")


def _whole(values: Sequence[Any]) -> list[int] | None:
    """Integers of any library as those of Python; None where one is no integer, or all are bytes."""
    if isinstance(values, bytes | bytearray | memoryview):
        return None
    try:
        whole = [operator.index(value) for value in values if not isinstance(value, bool)]
    except TypeError:
        return None
    return whole if len(whole) == len(values) else None


def _shown(given: Any) -> str:
    if isinstance(given, Tensor | np.ndarray):
        return f"{'a tensor' if isinstance(given, Tensor) else 'an array'} {list(given.shape)} of {given.dtype}"
    return f"{type(given).__name__} of other things" if isinstance(given, list | tuple) else type(given).__name__


def _divided(chunks: Spans, size: int) -> Spans:
    """The spans, which follow each other from the first place to the last."""
    at, spans = 0, _pairs(chunks)
    for start, end in spans:
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
    return spans


def _pairs(chunks: Any) -> Spans:
    """Pairs of whole numbers, whatever holds them."""
    listed = chunks.tolist() if isinstance(chunks, Tensor | np.ndarray) else chunks
    if not isinstance(listed, Sequence) or isinstance(listed, str | bytes):
        raise ConfigError(f"answer: chunks: a list of pairs (start, end), got {_shown(chunks)}; give one a chunk")
    pairs: list[tuple[int, int]] = []
    for pair in listed:
        whole = _whole(pair) if isinstance(pair, Sequence | Tensor | np.ndarray) else None
        if whole is None or len(whole) != 2:
            got = f"{' '.join(shown(pair).split())} as chunk {len(pairs)}"
            raise ConfigError(
                f"answer: chunks: pairs of whole numbers (start, end), got {got}; give where each starts and ends"
            )
        pairs.append((whole[0], whole[1]))
    return pairs


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
