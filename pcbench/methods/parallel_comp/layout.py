"""How a prompt is cut into chunks, and how many of them are prefilled together."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from pcbench.errors import ConfigError
from pcbench.methods.parallel_comp.config import Config
from pcbench.reference.bits import words
from pcbench.reference.chunks import split_chunks, tile_columns
from pcbench.types import KV_BLOCK, KVDtype, ModelRunner, ModelSpec, Prompt, code_bytes

__all__ = ["Layout", "lay_out", "read_with_bos", "spans_of"]

# of the free memory, what a micro-batch may take: estimates are not exact
FREE_SHARE = 0.8
# live at once: an input and an output of every linear part of a layer is more than any moment holds
LIVE_COPIES = 2


@dataclass(frozen=True)
class Layout:
    """All numbers of a prefill, known before anything runs.

    Args:
        spans: of the chunks in the context.
        keep: chunks kept; batch: chunks prefilled together.
        chunk_keys: keys that a chunk keeps per head.
        capacity: rows of a slot; prompt_capacity: without an answer; kv_heads: heads of the store.
        start_tokens: leading keys of every chunk that are never evicted.
        warnings: what was changed.
        kv_dtype: of slots but for the query's, which then has `tail` rows, `prompt_tail` without an answer.
    """

    spans: list[tuple[int, int]]
    keep: int
    batch: int
    chunk_keys: int
    capacity: int
    prompt_capacity: int
    kv_heads: int
    start_tokens: int
    warnings: list[str]
    kv_dtype: KVDtype | None = None
    tail: int = 0
    prompt_tail: int = 0

    @property
    def slots(self) -> int:
        return self.keep + self.batch

    def kv_bytes(self, spec: ModelSpec, itemsize: int, *, prompt: bool = False) -> int:
        """Bytes of all slots and the tail; of a `prompt` without room for an answer."""
        capacity, tail = (self.prompt_capacity, self.prompt_tail) if prompt else (self.capacity, self.tail)
        own = replace(spec, kv_heads=self.kv_heads)
        return self.slots * self.slot_bytes(own, itemsize, capacity) + own.kv_bytes(tail, itemsize)

    def slot_bytes(self, own: ModelSpec, itemsize: int, capacity: int) -> int:
        """Bytes of `capacity` rows of the store's kv-heads in every layer."""
        if self.kv_dtype is None:
            return own.kv_bytes(capacity, itemsize)
        return own.layers * own.kv_heads * code_bytes(self.kv_dtype, capacity, own.head_dim)


def read_with_bos(prompt: Prompt, config: Config, start_ids: Sequence[int]) -> Prompt:
    """The prompt whose query begins as the tokenizer begins a text, where the config wants it."""
    if not config.score_bos or not start_ids:
        return prompt
    return replace(prompt, query=torch.cat([prompt.query.new_tensor(start_ids), prompt.query]))


def lay_out(prompt: Prompt, config: Config, runner: ModelRunner) -> Layout:
    """Cuts a prompt so that no position exceeds the trained ones.

    Raises:
        ConfigError: the query is empty, or template, query and answer alone fill the trained length, or a split by
            characters without knowing them.
    """
    spec, query = runner.spec, prompt.query.numel()
    warnings: list[str] = []
    spans = spans_of(prompt, config, spec, warnings)
    longest = prompt.prefix.numel() + max(end - start for start, end in spans)
    evict = config.evict
    chunk_keys = longest if evict is None else evict.keys_of(longest)
    stored = longest if evict is None or evict.when == "query" else chunk_keys
    # a slot freed by the chunks becomes the query's, unless slots are quantised; whole words of eviction bits
    with_query = [max(stored, query + new) for new in (prompt.new_tokens, 0)]
    rows, tails = [32 * words(x) for x in with_query], [0, 0]
    if config.kv_dtype is not None:
        rows = [-(-stored // KV_BLOCK) * KV_BLOCK] * 2
        tails = [query + prompt.new_tokens, query]
    layout = Layout(
        spans=spans,
        keep=min(config.keep, len(spans)),
        batch=1,
        chunk_keys=chunk_keys,
        capacity=rows[0],
        prompt_capacity=rows[1],
        start_tokens=prompt.start_tokens,
        kv_heads=spec.heads if evict is not None and evict.group == "query_head" else spec.kv_heads,
        warnings=warnings,
        kv_dtype=config.kv_dtype,
        tail=tails[0],
        prompt_tail=tails[1],
    )
    assert isinstance(config.micro_batch, int), "resolve() first"
    batch = min(config.micro_batch, len(spans))
    free = runner.free_bytes() if config.fits_memory else None
    if free is not None:
        scored = longest + query if config.rank_by == "window_nll" else query
        fits = _chunks_that_fit(free, layout, runner, longest + query, scored)
        if fits < batch:
            warnings.append(f"micro_batch {batch} cut to {fits}: {free / 2**30:.1f} GiB of memory free")
            batch = fits
    return replace(layout, batch=batch)


def spans_of(prompt: Prompt, config: Config, spec: ModelSpec, warnings: list[str]) -> list[tuple[int, int]]:
    """Chunks of a prompt's context, each of which fits with template, query and answer in the trained length.

    Args:
        prompt: as `read_with_bos` gives it.
        config: resolved.
        spec: the model.
        warnings: gets what was changed.

    Raises:
        ConfigError: as of `lay_out`.
    """
    query = prompt.query.numel()
    if not query:
        raise ConfigError("parallel_comp: a query of at least one token, got none; ask a question")
    room = spec.trained_tokens - prompt.prefix.numel() - query - prompt.new_tokens
    if room < 1:
        raise ConfigError(
            f"parallel_comp: template + query + new tokens below the {spec.trained_tokens} trained positions of "
            f"{spec.name}, got {spec.trained_tokens - room}; shorten the query"
        )
    if prompt.spans is not None:
        return _given(prompt.spans, room)
    return _spans(prompt, config, (room, spec.trained_tokens), warnings)


def _given(spans: list[tuple[int, int]], room: int) -> list[tuple[int, int]]:
    """Chunks as they were asked for."""
    for i, (start, end) in enumerate(spans):
        if end - start > room:
            raise ConfigError(
                f"parallel_comp: chunks of at most {room} tokens beside template, query and answer, "
                f"got {end - start} in chunk {i}; divide it"
            )
    return spans


def _spans(prompt: Prompt, config: Config, most: tuple[int, int], warnings: list[str]) -> list[tuple[int, int]]:
    """Chunks as the config says; `most`: tokens of a chunk, and positions that the model was trained on."""
    room, trained = most
    chunk = config.chunk_tokens or room
    if chunk > room:
        warnings.append(f"chunk_tokens {chunk} cut to {room}: {trained} trained positions")
        chunk = room
    tokens = prompt.context.numel()
    spans = split_chunks(tokens, chunk)
    if config.split == "tokens":
        return spans
    if prompt.characters is None or len(prompt.characters) != tokens:
        raise ConfigError(
            'parallel_comp: split = "chars" with the character at which each token starts, got none; '
            'use a task of official files or split = "tokens"'
        )
    wanted = chunks = len(spans)
    spans = _split_characters(prompt.characters, chunks)
    while max(end - start for start, end in spans) > room:
        chunks += 1
        if chunks > prompt.characters[-1]:
            raise ConfigError(
                f"parallel_comp: pieces of at most {room} tokens, got more in a character; split by tokens"
            )
        spans = _split_characters(prompt.characters, chunks)
    if chunks > wanted:
        warnings.append(f"{wanted} chunks of equal characters made {chunks}: one held more than {room} tokens")
    return spans


def _split_characters(starts: Sequence[int], chunks: int) -> list[tuple[int, int]]:
    """Spans of tokens that start in equal numbers of characters; the rest goes to the last."""
    width = (starts[-1] + 1) // chunks if starts else 0
    bounds = [0, *(bisect_left(starts, width * i) for i in range(1, chunks)), len(starts)]
    return list(pairwise(bounds))


def _chunks_that_fit(free: int, layout: Layout, runner: ModelRunner, width: int, scored: int) -> int:
    """Chunks of a micro-batch that the free bytes hold, at least 1, from formulas.

    A layer's parameters over its hidden size are the widths of its linear parts: what a token's activations take.
    """
    spec, itemsize = runner.spec, runner.dtype.itemsize
    slot = layout.slot_bytes(replace(spec, kv_heads=layout.kv_heads), itemsize, layout.capacity)
    activations = LIVE_COPIES * width * (spec.parameters // spec.layers // spec.hidden + spec.hidden) * itemsize
    # a tile of logits and its exponentials, in float32
    logits = 2 * scored * tile_columns(spec.vocab, runner.device) * 4
    return max(1, int((free * FREE_SHARE - layout.keep * slot) // (slot + activations + logits)))
