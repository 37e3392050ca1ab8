"""A method that stores every token: parts of a prompt by plans of its own, then tokens one by one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from pcbench.methods.dual_chunk import all_of
from pcbench.types import (
    AttentionPlan,
    ModelRunner,
    Prefilled,
    Prompt,
    RaggedKVStore,
    Stages,
    no_stages,
)

__all__ = ["Part", "State", "WholeCache"]


@dataclass(frozen=True, eq=False)
class Part:
    """What one forward reads.

    Args:
        ids: [T] int64.
        positions: [T] int64.
        plan: its attention; the first part of a text has one that fills the store.
    """

    ids: Tensor
    positions: Tensor
    plan: AttentionPlan


@dataclass
class State:
    """What decoding goes on from."""

    store: RaggedKVStore
    plan: AttentionPlan
    position: Tensor  # [1] int64, of the next token
    logits: Tensor = field(init=False)  # [1, V]


class WholeCache:
    """Base class of methods that store every key and value once, in the order of the text."""

    Config: ClassVar[Any]
    backends = ("ops",)

    def __init__(self, config: Any, runner: ModelRunner) -> None:
        self.config, self.runner = config, runner

    def step(self, prefilled: Prefilled, token: Tensor) -> Tensor:
        """Logits after one more token."""
        state: State = prefilled.state
        self._follow(token, state)
        return state.logits

    def read(self, prefilled: Prefilled, tokens: Tensor) -> Tensor:
        """Last hidden rows [T, E] of given tokens, read over everything that is stored."""
        return self._follow(tokens, prefilled.state)

    def _begin(self, parts: Sequence[Part], plan: AttentionPlan, following: int, room: int, stages: Stages) -> State:
        """Reads the parts of a text.

        Args:
            parts: at least one.
            plan: of the tokens that follow.
            following: position of the first of them.
            room: how many there are at most.
            stages: names what runs inside the forwards.
        """
        first, later = parts[0].ids.numel(), sum(part.ids.numel() for part in parts[1:])
        store = self.runner.new_ragged_store(all_of([first], self.runner.spec, later + room))
        state = State(store, plan, torch.full_like(parts[0].positions[:1], following))
        for part in parts:
            self._read(part, state, stages)
        return state

    def _follow(self, tokens: Tensor, state: State, stages: Stages = no_stages) -> Tensor:
        """Reads tokens [T] at the next positions; their last hidden rows [T, E]."""
        positions = state.position + torch.arange(tokens.numel(), device=tokens.device)
        hidden = self._read(Part(tokens, positions, state.plan), state, stages)
        state.position += tokens.numel()
        return hidden

    def _read(self, part: Part, state: State, stages: Stages) -> Tensor:
        lengths = torch.full((1,), part.ids.numel(), dtype=torch.int32, device=part.ids.device)
        hidden = self.runner.forward(part.ids[None], part.positions[None], lengths, state.store, part.plan, stages)
        state.logits = self.runner.logits(hidden[:, -1])
        return hidden[0]

    def _prefilled(self, state: State, prompt: Prompt, warnings: list[str]) -> Prefilled:
        spec, itemsize = self.runner.spec, self.runner.dtype.itemsize
        before = prompt.prefix.numel() + prompt.context.numel()
        tokens = before + prompt.query.numel()
        return Prefilled(
            logits=state.logits,
            state=state,
            kept_tokens=lambda: before,
            kv_bytes=state.store.nbytes(),
            kv_bytes_predicted=spec.kv_bytes(tokens + prompt.new_tokens, itemsize),
            kv_bytes_prompt=spec.kv_bytes(tokens, itemsize),
            warnings=warnings,
        )
