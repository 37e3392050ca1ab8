"""Chunk by chunk, each read over the first chunk and the last ones before it; what leaves the window is forgotten.

Source: attention sinks and a sliding window after StreamingLLM, arXiv:2309.17453. There the window slides by tokens and
positions count inside it; here it slides by chunks, and positions stay those of the text.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from pcbench.config import Count, Table
from pcbench.reference.chunks import split_chunks
from pcbench.types import (
    Cost,
    DeviceKind,
    KVStore,
    ModelRunner,
    ModelSpec,
    Ops,
    Prefilled,
    Prompt,
    Stages,
    linear_flops,
)

__all__ = ["ChunkWindow"]


@dataclass(frozen=True)
class Over:
    """Attention of new tokens over remembered chunks and over themselves; their own keys lie in the last slot."""

    slots: Tensor  # [1, P] int32
    scale: float

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, store: KVStore, ops: Ops) -> Tensor:
        rows = store.rows(layer)
        out, _ = ops.cached_attention(
            q, rows.k_rows, rows.v_rows, rows.starts, rows.lengths, self.slots, scale=self.scale, causal_last=True
        )
        return out


@dataclass
class State:
    """What decoding goes on from: the store, where the next token stands, and what it is read over."""

    store: KVStore
    position: int
    plan: Over


class ChunkWindow:
    """A slot for the first chunk, `window` slots for the last ones, and one for the question and its answer."""

    class Config(Table):
        """What can be set.

        Args:
            chunk_tokens: of a chunk at most.
            window: chunks that are remembered beside the first; the one that is being read counts.
        """

        chunk_tokens: Count = 512
        window: Count = 2

        def resolve(self, spec: ModelSpec, device: DeviceKind, task: str = "") -> Self:
            return self

        def cost(self, spec: ModelSpec, tokens: int) -> Cost:
            """The products of the layers, and 4·H·D a pair of token and remembered token."""
            remembered = min(tokens, self.chunk_tokens * (self.window + 1))
            pairs = 4.0 * spec.layers * spec.heads * spec.head_dim * tokens * remembered
            return Cost(flops=linear_flops(spec, tokens) + pairs, kv_tokens=remembered)

    backends = ("ops",)

    def __init__(self, config: Config, runner: ModelRunner) -> None:
        self.config, self.runner = config, runner

    def prefill(self, prompt: Prompt, stages: Stages) -> Prefilled:
        """Logits of the first answer token after all chunks and the question."""
        spec, device = self.runner.spec, self.runner.device
        spans = prompt.spans or split_chunks(prompt.context.numel(), self.config.chunk_tokens)
        parts = [prompt.context[start:end] for start, end in spans]
        parts[0] = torch.cat([prompt.prefix, parts[0]])
        window = min(self.config.window, max(1, len(parts) - 1))
        own = prompt.query.numel() + prompt.new_tokens
        capacity = max(own, *(part.numel() for part in parts))
        store = self.runner.new_store(window + 2, capacity)
        kept: dict[int, int] = {}  # chunk → slot, in reading order
        state = State(store, 0, Over(torch.zeros(1, 0, dtype=torch.int32, device=device), spec.scale))
        for number, part in enumerate(parts):
            slot = 0 if number == 0 else 1 + (number - 1) % window
            kept = {chunk: at for chunk, at in kept.items() if at != slot}
            with stages("chunks"):
                self._read(part, state, [*kept.values(), slot], stages)
            kept[number] = slot
        with stages("query"):
            hidden = self._read(prompt.query, state, [*kept.values(), window + 1], stages)
        slots = torch.tensor([*kept.values()], dtype=torch.int32, device=device)
        warnings = []
        if prompt.context_tokens > spec.trained_tokens:
            warnings.append(f"{prompt.context_tokens} positions, trained on {spec.trained_tokens}")
        return Prefilled(
            logits=self.runner.logits(hidden[:, -1]),
            state=state,
            spans=spans,
            kept_chunks=torch.tensor([*kept], dtype=torch.int32, device=device),
            kept_tokens=lambda: store.held(slots),
            kv_bytes=store.nbytes(),
            kv_bytes_predicted=spec.kv_bytes((window + 2) * capacity, self.runner.dtype.itemsize),
            warnings=warnings,
        )

    def step(self, prefilled: Prefilled, token: Tensor) -> Tensor:
        """Logits after one more token, whose keys lie behind the question's."""
        return self.runner.logits(self._forward(token, prefilled.state)[:, -1])

    def _read(self, ids: Tensor, state: State, slots: list[int], stages: Stages) -> Tensor:
        """Reads ids over slots, the last of which is emptied and takes their keys."""
        over = torch.tensor([slots], dtype=torch.int32, device=ids.device)
        state.plan = Over(over, self.runner.spec.scale)
        state.store.begin(over[0, -1:])
        return self._forward(ids, state, stages)

    def _forward(self, ids: Tensor, state: State, *stages: Stages) -> Tensor:
        positions = state.position + torch.arange(ids.numel(), device=ids.device)
        lengths = torch.full((1,), ids.numel(), dtype=torch.int32, device=ids.device)
        state.position += ids.numel()
        return self.runner.forward(ids[None], positions[None], lengths, state.store, state.plan, *stages)
