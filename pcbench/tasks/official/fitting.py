"""A record's prompt as ids: chat template, middle truncation, and where the context begins and ends."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pcbench.errors import ConfigError
from pcbench.tasks.base import Example, FileTask, Request
from pcbench.tasks.official.reading import Parts
from pcbench.types import Tokenizer

__all__ = ["file_example", "start_count"]


@dataclass(frozen=True)
class Ids:
    """The ids of `Parts`; see `Example`."""

    prefix: tuple[int, ...]
    context: tuple[int, ...]
    query: tuple[int, ...]
    start_tokens: int
    context_characters: tuple[int, ...] | None
    as_whole: bool
    chat: bool

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
        ConfigError: nothing of the context would be left, or the task's prompts are never cut and this is too long.
    """
    task = request.task
    assert isinstance(task, FileTask)
    chat = task.chat if request.chat == "auto" else request.chat == "always"
    whole = _ids(request, parts, chat)
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
        start_tokens=kept.start_tokens,
        classes=tuple(classes),
        stop_ids=tuple(request.tokenizer.encode(task.stop)[-1:]),
        stop_at=task.stop_at,
        tokens_before=len(whole),
        words=words,
        context_characters=kept.context_characters,
        as_whole=kept.as_whole,
        chat=whole.chat if whole.chat or task.chat else None,
        seed=request.seed,
        warnings=tuple(_warnings(chat, whole, kept)),
    )


def _warnings(chat: bool, whole: Ids, kept: Ids) -> Iterator[str]:
    if chat and not whole.chat:
        yield "no chat template: asked plainly"
    if not kept.as_whole:
        yield "tokenised in parts: ids may differ from the official prompt's"
    if kept is not whole:
        yield f"its middle was cut out ({len(kept)} of {len(whole)} tokens kept)"


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
    assert isinstance(request.task, FileTask)
    if not request.task.cuts:
        raise ConfigError(
            f"context_tokens: at least {len(whole) + request.new_tokens} for record {request.index} of task "
            f"{request.name}, got {request.context_tokens}; take a file made with this model's tokenizer, or raise "
            "context_tokens"
        )
    begin, end = _borders(request.tokenizer, parts, len(starts), len(ids))
    limit = min(limit, len(ids))
    while limit >= 2:
        kept = _ids(request, _without_middle(request.tokenizer, ids, begin, end, limit // 2), chat)
        if not kept.context:
            break
        if len(kept) <= room:
            return kept
        limit -= len(kept) - room
    raise _no_room(request, 2 * (min(begin, len(ids) - end) + 1), limit, official)


def _no_room(request: Request, least: int, limit: int, official: int | None) -> ConfigError:
    """Of a prompt none of whose context is left.

    Args:
        request: which prompt; least: the limit that leaves some; limit: what there was; official: its bound.
    """
    if official is not None and official < least:
        return ConfigError(
            f"prompt_tokens: at least about {least} for task {request.name}, got {official}; raise it or leave it out"
        )
    return ConfigError(
        f"context_tokens: at least about {request.context_tokens + least - limit} for task {request.name}, "
        f"got {request.context_tokens}; make it longer"
    )


def _without_middle(tokenizer: Tokenizer, ids: Sequence[int], begin: int, end: int, half: int) -> Parts:
    """The first and the last `half` ids as text; the context was `ids[begin:end]`.

    Source: the middle truncation of LongBench, arXiv:2308.14508: both halves are decoded and joined as text, wherever
        the instruction and the question lie.
    """
    decode, skipped = tokenizer.decode, len(ids) - half
    head, tail = ids[:half], ids[skipped:]
    first, last = decode(head), decode(tail)
    a, b = len(decode(head[:begin])), len(decode(head[:end]))
    c, d = (len(last) - len(decode(tail[max(0, border - skipped) :])) for border in (begin, end))
    return Parts(first[:a] + last[:c], first[a:b] + last[c:d], first[b:] + last[d:])


def _borders(tokenizer: Tokenizer, parts: Parts, first: int, total: int) -> tuple[int, int]:
    """Where the context begins and ends among all `total` ids, the `first` of which are special."""
    _, starts = tokenizer.encode_with_starts(parts.text)
    if starts is None:
        begin = first + len(tokenizer.encode(parts.before))
        return begin, max(begin, total - len(tokenizer.encode(parts.after)))
    end = len(parts.before) + len(parts.context)
    return first + bisect_left(starts, len(parts.before)), first + bisect_left(starts, end)


def _ids(request: Request, parts: Parts, chat: bool) -> Ids:
    """The whole text's ids, cut where the context begins and ends; an id across a border belongs to what it begins in.

    A tokenizer that cannot say where its ids begin tokenises the parts apart.
    """
    tokenizer, wrapped = request.tokenizer, None
    if chat:
        told: Any = {"date": request.chat_date, "arguments": request.chat_arguments}
        wrapped = tokenizer.chat(parts.before, parts.after, **told)
    first = tokenizer.start_ids if wrapped is None else []
    chatted = wrapped is not None
    before, after = wrapped or (parts.before, parts.after)
    ids, starts = tokenizer.encode_with_starts(f"{before}{parts.context}{after}")
    if starts is None:
        prefix, context, query = (tuple(tokenizer.encode(text)) for text in (before, parts.context, after))
        as_whole = [*prefix, *context, *query] == ids
        begun = start_count(tokenizer, prefix) if chatted else len(first)
        return Ids((*first, *prefix), context, query, begun, None, as_whole, chatted)
    begin = bisect_left(starts, len(before))
    # at least one id asks
    end = min(bisect_left(starts, len(before) + len(parts.context)), len(ids) - 1)
    characters = tuple(start - len(before) for start in starts[begin:end])
    begun = start_count(tokenizer, ids[:begin]) if chatted else len(first)
    return Ids((*first, *ids[:begin]), tuple(ids[begin:end]), tuple(ids[end:]), begun, characters, True, chatted)


def start_count(tokenizer: Tokenizer, prefix: Sequence[int]) -> int:
    """Ids in front of a prompt that its chat template brought as text: what the tokenizer puts there, or its BOS."""
    for front in (tokenizer.start_ids, [tokenizer.bos_id]):
        if front and list(prefix[: len(front)]) == front:
            return len(front)
    return 0
