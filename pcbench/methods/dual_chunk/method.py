"""The method: prefill, then tokens one by one over all that was read."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pcbench.methods.dual_chunk.chunks import Choice
from pcbench.methods.dual_chunk.config import Config as Parameters
from pcbench.methods.dual_chunk.plan import FreshPlan
from pcbench.reference.packing import following
from pcbench.types import (
    AttentionPlan,
    ModelRunner,
    ModelSpec,
    Prefilled,
    Prompt,
    RaggedKVStore,
    Rotary,
    Segments,
    Stages,
    no_stages,
)

__all__ = ["DualChunk", "all_of"]

# tokens of a prompt that a forward reads: what is computed on the way grows no further
AT_ONCE = 4096


@dataclass
class State:
    """What decoding goes on from."""

    store: RaggedKVStore
    plan: AttentionPlan
    position: Tensor  # [1] int64, of the next token
    logits: Tensor = field(init=False)  # [1, V]


class DualChunk:
    """Exact attention with dual chunk positions: ChunkLlama, arXiv:2402.17463.

    The key at position j is turned by j mod s for good. A query at position i is turned by i mod s for keys of its own
    chunk of s tokens, by min(i mod s + s, P) for those of the chunk before, by P for all others: no distance is above
    P, and all up to min(s, P − s) are exact. One softmax over all keys; nothing is evicted. With P = c − 1 it is the
    model's own attention up to the trained length c.
    """

    Config = Parameters
    backends = ("ops",)

    def __init__(self, config: Parameters, runner: ModelRunner) -> None:
        self.config, self.runner = config, runner

    def prefill(self, prompt: Prompt, stages: Stages) -> Prefilled:
        """Logits of the first answer token, and keys and values of the whole prompt."""
        with stages("forward"):
            state = self._begin(_ids(prompt), prompt.new_tokens, stages)
        return self._prefilled(state, prompt)

    def read_context(self, prompt: Prompt, stages: Stages) -> State | None:
        """Keys and values of prefix and context; None where chunks are left out, as tiles of queries choose them."""
        ids = torch.cat([prompt.prefix, prompt.context])
        if self.config.keep_chunks is not None or not ids.numel():
            return None
        with stages("forward"):
            return self._begin(ids, prompt.query.numel() + prompt.new_tokens, stages)

    def ask(self, read: State, prompt: Prompt, stages: Stages) -> Prefilled:
        """The same as `prefill` from a copy of these."""
        state = copy.deepcopy(read)
        with stages("query"):
            self._read(prompt.query, state, state.plan, stages)
        return self._prefilled(state, prompt)

    def _prefilled(self, state: State, prompt: Prompt) -> Prefilled:
        segments = all_of([_ids(prompt).numel()], self.runner.spec, prompt.new_tokens)
        vector = self.runner.spec.head_dim * self.runner.dtype.itemsize
        return Prefilled(
            logits=state.logits,
            state=state,
            kept_tokens=lambda: prompt.prefix.numel() + prompt.context.numel(),
            kv_bytes=state.store.nbytes(),
            kv_bytes_predicted=sum(x.vectors for x in segments) * vector,
            kv_bytes_prompt=sum(x.with_room(0).vectors for x in segments) * vector,
        )

    def step(self, prefilled: Prefilled, token: Tensor) -> Tensor:
        """Logits after one more token."""
        state: State = prefilled.state
        self._read(token, state, state.plan)
        return state.logits

    def read(self, prefilled: Prefilled, tokens: Tensor) -> Tensor:
        """Last hidden rows [T, E] of given tokens."""
        state: State = prefilled.state
        return self._read(tokens, state, state.plan)

    def rows(self, prompt: Prompt) -> Tensor | None:
        """Last hidden rows of every token of a prompt; None where chunks are left out."""
        if self.config.keep_chunks is not None:
            return None
        found: list[Tensor] = []
        self._begin(_ids(prompt), prompt.new_tokens, take=found.append)
        return torch.cat(found)

    @staticmethod
    def plan(config: Parameters, spec: ModelSpec, rotary: Rotary, lengths: Tensor | None = None) -> FreshPlan:
        """Attention of one request, whose forwards are told positions modulo the period.

        Args:
            config: resolved.
            spec: the model.
            rotary: its own.
            lengths: [B] int32, tokens of each row; None means all.
        """
        choice = None
        if config.keep_chunks is not None:
            period, clip, _ = config.numbers
            choice = Choice(config.keep_chunks, config.score, config.tile_rows, period, clip, spec.scale, rotary)
        return FreshPlan(config, spec, rotary, choice, lengths=lengths)

    def _begin(
        self, ids: Tensor, room: int, stages: Stages = no_stages, take: Callable[[Tensor], None] = lambda hidden: None
    ) -> State:
        """Reads ids [T] into a store with room for so many more; `take` gets the last hidden rows part by part."""
        first, *others = ids.split(self._at_once())
        plan = self.plan(self.config, self.runner.spec, self.runner.rotary)
        segments = all_of([first.numel()], self.runner.spec, ids.numel() - first.numel() + room)
        state = State(self.runner.new_ragged_store(segments), plan.later(), ids.new_zeros(1))
        take(self._read(first, state, plan, stages))
        for part in others:
            take(self._read(part, state, state.plan, stages))
        return state

    def _at_once(self) -> int:
        """AT_ONCE; where chunks are left out, whole tiles."""
        if self.config.keep_chunks is None:
            return AT_ONCE
        return max(1, AT_ONCE // self.config.tile_rows) * self.config.tile_rows

    def _read(self, tokens: Tensor, state: State, plan: AttentionPlan, stages: Stages = no_stages) -> Tensor:
        """Reads tokens [T] at the next positions; their last hidden rows [T, E]."""
        period, _, _ = self.config.numbers
        ids, positions, lengths = following(tokens, state.position)
        hidden = self.runner.forward(ids, positions % period, lengths, state.store, plan, stages)
        state.position += tokens.numel()
        state.logits = self.runner.logits(hidden[:, -1])
        return hidden[0]


def _ids(prompt: Prompt) -> Tensor:
    return torch.cat([prompt.prefix, prompt.context, prompt.query])


def all_of(counts: Sequence[int], spec: ModelSpec, room: int) -> list[Segments]:
    """Segments of each layer that hold every token of rows of so many, and `room` more."""
    kept = torch.tensor(counts)[:, None].expand(-1, spec.kv_heads).contiguous()
    return [Segments(kept, torch.full_like(kept, room))] * spec.layers
