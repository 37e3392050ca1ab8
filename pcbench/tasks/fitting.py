"""A record's prompt as ids: chat template, middle truncation, and where the context begins and ends."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from pcbench.errors import ConfigError
from pcbench.tasks.base import Example, FileTask, Request
from pcbench.tasks.official import Parts
from pcbench.types import Tokenizer

__all__ = ["file_example"]


@dataclass(frozen=True)
class Ids:
    """The ids of `Parts`; see `Example`."""

    prefix: tuple[int, ...]
    context: tuple[int, ...]
    query: tuple[int, ...]
    context_characters: tuple[int, ...] | None
    as_whole: bool

    def __len__(self) -> int:
        return len(self.prefix) + len(self.context) + len(self.query)


def file_example(
    request: Request,
    parts: Parts,
    prompts: str,
    answers: Sequence[object],
    *,
    classes: Sequence[str] = (),
    words: int | None = None,
) -> Example:
    """The prompt of a record, its middle cut out where it is longer than the request allows.

    Args:
        request: which record, and how long its prompt may be.
        parts: the texts.
        prompts, answers, classes, words: see `Example`.

    Raises:
        ConfigError: instruction and question alone are too long.
    """
    task, tokenizer = request.task, request.tokenizer
    assert isinstance(task, FileTask)
    chat = task.chat if request.chat == "auto" else request.chat == "always"
    whole = _ids(tokenizer, parts, chat)
    kept = _cut(request, parts, chat, whole)
    return Example(
        id=request.id,
        task=request.name,
        prefix=kept.prefix,
        context=kept.context,
        query=kept.query,
        answers=tuple(str(answer) for answer in answers),
        key_span=None,
        new_tokens=request.new_tokens,
        prompts=prompts,
        classes=tuple(classes),
        stop_ids=tuple(tokenizer.encode(task.stop)[-1:]),
        tokens_before=len(whole),
        words=words,
        context_characters=kept.context_characters,
        as_whole=kept.as_whole,
    )


def _cut(request: Request, parts: Parts, chat: bool, whole: Ids) -> Ids:
    """As long as the limit of prompt tokens says and the request leaves room.

    The limit counts the prompt without its chat template. A cut text can have a few more tokens than were kept, so
    it is cut again until it fits.
    """
    room = request.context_tokens - request.new_tokens
    starts = request.tokenizer.start_ids
    ids = [*starts, *request.tokenizer.encode(parts.text)]
    official = request.prompt_tokens
    limit = room if official is None else min(room, official)
    if len(ids) <= limit and len(whole) <= room:
        return whole
    limit = min(limit, len(ids))
    while True:
        kept = _ids(request.tokenizer, _without_middle(request, parts, ids, limit), chat)
        if len(kept) <= room:
            return kept
        limit -= len(kept) - room


def _without_middle(request: Request, parts: Parts, ids: Sequence[int], limit: int) -> Parts:
    """The first and the last half of `limit` ids as text.

    Source: the middle truncation of LongBench, arXiv:2308.14508: both halves are decoded and joined as text.
    """
    tokenizer, half = request.tokenizer, limit // 2
    before, after = _edges(tokenizer, parts, len(tokenizer.start_ids))
    if half < max(before + 1, after + 1):
        least = request.context_tokens + 2 * (max(before, after) + 1 - half)
        raise ConfigError(
            f"context_tokens: at least about {least} for the instruction and question of task {request.name}, "
            f"got {request.context_tokens}; make it longer"
        )
    head, tail = ids[:half], ids[len(ids) - half :]
    opening, closing = tokenizer.decode(head[:before]), tokenizer.decode(tail[half - after :])
    kept_head, kept_tail = tokenizer.decode(head), tokenizer.decode(tail)
    end = len(kept_tail) - len(closing)
    return Parts(kept_head[: len(opening)], kept_head[len(opening) :] + kept_tail[:end], kept_tail[end:])


def _edges(tokenizer: Tokenizer, parts: Parts, first: int) -> tuple[int, int]:
    """How many ids begin before the context, `first` of them special, and how many after it."""
    ids, starts = tokenizer.encode_with_starts(parts.text)
    if starts is None:
        return first + len(tokenizer.encode(parts.before)), len(tokenizer.encode(parts.after))
    end = len(parts.before) + len(parts.context)
    return first + bisect_left(starts, len(parts.before)), len(ids) - bisect_left(starts, end)


def _ids(tokenizer: Tokenizer, parts: Parts, chat: bool) -> Ids:
    """The whole text's ids, cut where the context begins and ends; an id across a border belongs to what it begins in.

    A tokenizer that cannot say where its ids begin tokenises the parts apart.
    """
    wrapped = tokenizer.chat(parts.before, parts.after) if chat else None
    first = tokenizer.start_ids if wrapped is None else []
    before, after = wrapped or (parts.before, parts.after)
    ids, starts = tokenizer.encode_with_starts(f"{before}{parts.context}{after}")
    if starts is None:
        prefix, context, query = (tuple(tokenizer.encode(text)) for text in (before, parts.context, after))
        return Ids((*first, *prefix), context, query, None, [*prefix, *context, *query] == ids)
    begin = bisect_left(starts, len(before))
    # at least one id asks
    end = min(bisect_left(starts, len(before) + len(parts.context)), len(ids) - 1)
    characters = tuple(start - len(before) for start in starts[begin:end])
    return Ids((*first, *ids[:begin]), tuple(ids[begin:end]), tuple(ids[end:]), characters, True)
