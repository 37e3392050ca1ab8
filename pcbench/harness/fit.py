"""How many chunks, and how long a context, a budget of bytes holds.

Measured, not computed: a method's own prefill runs over a runner that allocates what the model would fill and skips
the model's arithmetic. Every size is that of tensors that were really allocated, with the shapes of the model and the
lengths of the method; their contents are never written.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from pcbench.harness.prompts import device_prompt
from pcbench.models.runner import HFRunner
from pcbench.tasks import Example
from pcbench.types import AttentionPlan, KVStore, ModelSpec, Ops, Prompt, Stages, no_stages

__all__ = ["Fit", "StoreRunner", "fit", "largest"]


@dataclass(frozen=True)
class Fit:
    """What fits in `budget_bytes` of keys and values; None where it was not asked.

    Args:
        chunks: the most chunks that are held at the same time, none of them dropped; None without chunks.
        context_tokens: of the longest context that is held so: template + context + query + new tokens.
    """

    budget_bytes: int | None = None
    chunks: int | None = None
    context_tokens: int | None = None


class StoreRunner:
    """A `ModelRunner` that allocates a model's keys and values and runs none of its layers.

    Args:
        runner: whose stores, device and dtype these are.
    """

    def __init__(self, runner: HFRunner) -> None:
        self.spec: ModelSpec = runner.spec
        self.ops: Ops = runner.ops
        self.device, self.dtype, self.new_store = runner.device, runner.dtype, runner.new_store
        # of width 1, so that ranking the chunks costs nothing either
        self.head = torch.zeros(runner.spec.vocab, 1, device=self.device, dtype=self.dtype)

    def free_bytes(self) -> None:
        """What is free bounds no micro-batch here: the budget does."""

    def lm_head(self) -> Tensor:
        """[V, 1]."""
        return self.head

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        lengths: Tensor,
        store: KVStore,
        plan: AttentionPlan,
        stages: Stages = no_stages,
    ) -> Tensor:
        """Hidden rows [M, T, 1] of zeros; the store has been allocated before."""
        return self.head.new_zeros(*ids.shape, 1)

    def stock_forward(self, ids: Tensor, cache: Any | None) -> tuple[Tensor, Any]:
        """Logits [1, V] of zeros and a cache that has grown by `ids` [1, T] in every layer."""
        cache = cache or DynamicCache()
        shape = (1, self.spec.kv_heads, ids.shape[1], self.spec.head_dim)
        for layer in range(self.spec.layers):
            cache.update(self.head.new_empty(shape), self.head.new_empty(shape), layer)
        return self.head.new_zeros(1, self.spec.vocab), cache


@torch.inference_mode()
def fit(prepared: Any, runner: HFRunner, example: Example, chunk_tokens: int | None, budget_bytes: int) -> Fit:
    """What a budget holds, with the prompt's own template, query and answer.

    Args:
        prepared: the cell; a method that keeps a number of chunks calls it `keep`.
        runner: the loaded model.
        example: a prompt of the cell.
        chunk_tokens: context tokens of the cell's chunks, None without chunks.
        budget_bytes: for keys and values, beside the weights.
    """
    prompt, stores = device_prompt(example, runner.device), StoreRunner(runner)
    around = prompt.context_tokens - prompt.context.numel()
    unit = chunk_tokens or 1
    fields = type(prepared.config).model_fields
    keeps = chunk_tokens is not None and "keep" in fields
    # the other ranks would run the model for what is only allocated here
    alone = {"ranks": "one"} if "ranks" in fields else {}

    def held_bytes(units: int) -> int:
        context = torch.zeros(units * unit, dtype=torch.int64, device=runner.device)
        longer = Prompt(prefix=prompt.prefix, context=context, query=prompt.query, new_tokens=prompt.new_tokens)
        changes = {"keep": units, "chunk_tokens": unit} if keeps else {}
        method = prepared.method(prepared.config.model_copy(update=alone | changes), stores)
        bytes_held: int = method.prefill(longer, no_stages).kv_bytes
        return bytes_held

    units = largest(held_bytes, budget_bytes)
    return Fit(budget_bytes, units if keeps else None, around + units * unit if units else 0)


def largest(size: Callable[[int], int], most: int) -> int:
    """The largest n with size(n) ≤ most, 0 where not even 1 is; `size` grows with n.

    The line through the first two sizes says where to look; what is returned and the next larger n were both asked.
    """
    first = size(1)
    if first > most:
        return 0
    slope = size(2) - first
    n = 1 + max(0, (most - first) // slope)
    while size(n) > most:
        n -= 1
    while size(n + 1) <= most:
        n += 1
    return n
