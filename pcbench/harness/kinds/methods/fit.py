"""How many chunks, and how long a context, a budget of bytes holds.

Measured, not computed: a method's own prefill and steps run over a runner that allocates what the model would fill and
skips the model's arithmetic. Every size is that of tensors that were really allocated, with the shapes of the model and
the lengths of the method; their contents are never written.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self
from weakref import WeakSet

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from pcbench.errors import ConfigError
from pcbench.harness.kinds.methods.prompts import device_prompt
from pcbench.models.runner import HFRunner
from pcbench.models.stores.ragged import RaggedStore
from pcbench.models.stores.slots import SlotCache
from pcbench.tasks import Example
from pcbench.types import (
    AttentionPlan,
    KVStore,
    ModelSpec,
    Ops,
    RaggedKVStore,
    Rotary,
    Rows,
    Segments,
    Stages,
    no_stages,
)

__all__ = ["Fit", "StoreRunner", "fit", "largest"]

# tokens after which a store that has not grown does not grow
LONG = 1 << 16


@dataclass(frozen=True)
class Fit:
    """What fits in `budget_bytes` of keys and values; None where it was not asked.

    Args:
        chunks: the most chunks that are held at the same time, none of them dropped, however few the cell keeps; None
            without chunks.
        context_tokens: of the longest context that is held so: template + context + query + new tokens; None where
            any is.
        any_length: what is stored stops growing below the budget.
    """

    budget_bytes: int | None = None
    chunks: int | None = None
    context_tokens: int | None = None
    any_length: bool = False


class StoreRunner:
    """A `ModelRunner` that allocates a model's keys and values and runs none of its layers.

    Args:
        runner: whose stores, device and dtype these are.
    """

    def __init__(self, runner: HFRunner) -> None:
        self.spec: ModelSpec = runner.spec
        self.ops: Ops = runner.ops
        self.device, self.dtype, self.runner = runner.device, runner.dtype, runner
        self.start_ids = runner.start_ids
        self.stores: WeakSet[SlotCache | RaggedStore] = WeakSet()
        self.caches: WeakSet[DynamicCache] = WeakSet()
        # of width 1, so that ranking the chunks costs nothing either
        self.head = torch.zeros(runner.spec.vocab, 1, device=self.device, dtype=self.dtype)

    @property
    def rotary(self) -> Rotary:
        """The runner's."""
        return self.runner.rotary

    def held_bytes(self) -> int:
        """Of keys and values in the stores and caches that are there."""
        rows = [x for cache in self.caches for layer in cache.layers for x in (layer.keys, layer.values)]
        return sum(store.nbytes() for store in self.stores) + sum(x.numel() * x.element_size() for x in rows)

    def new_store(self, slots: int, capacity: int, **more: Any) -> SlotCache:
        """The runner's."""
        store = self.runner.new_store(slots, capacity, **more)
        self.stores.add(store)
        return store

    def new_ragged_store(self, segments: Sequence[Segments]) -> RaggedStore:
        """The runner's."""
        store = self.runner.new_ragged_store(segments)
        self.stores.add(store)
        return store

    def free_bytes(self) -> None:
        """What is free bounds no micro-batch here: the budget does."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Zeros [..., V]."""
        return hidden @ self.head.T

    def head_factors(self, hidden: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rows [X, 1] and weights [V, 1]."""
        return hidden, self.head

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        lengths: Tensor,
        store: KVStore | RaggedKVStore,
        plan: AttentionPlan,
        stages: Stages = no_stages,
        rows: Rows | None = None,
    ) -> Tensor:
        """Hidden rows [M, T, 1] of zeros; the store has been allocated before."""
        return self.head.new_zeros(*ids.shape, 1)

    def with_rope(self, scaling: str, factor: float, trained_tokens: int) -> Self:
        """Itself: frequencies take no memory that grows."""
        return self

    def pressed(self, make: Callable[[Any], Any]) -> Any:
        """Nothing.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "budget_bytes: a method that knows what it keeps, got a press, which reads first; leave it out"
        )

    def stock_forward(self, ids: Tensor, cache: Any | None) -> tuple[Tensor, Any]:
        """Logits [1, V] of zeros and a cache that has grown by `ids` [1, T] in every layer."""
        if cache is None:
            cache = DynamicCache()
            cache.layers = [DynamicLayer() for _ in range(self.spec.layers)]
            self.caches.add(cache)
        shape = (1, self.spec.kv_heads, cache.get_seq_length() + ids.shape[1], self.spec.head_dim)
        for layer in cache.layers:
            # not by `update`, which would copy what nobody has written
            layer.keys, layer.values = self.head.new_empty(shape), self.head.new_empty(shape)
            layer.is_initialized = True
        return self.head.new_zeros(1, self.spec.vocab), cache


@torch.inference_mode()
def fit(prepared: Any, runner: HFRunner, example: Example, chunk_tokens: int | None, budget_bytes: int) -> Fit:
    """What a budget holds, with the prompt's own template and query and all new tokens of its answer.

    Args:
        prepared: the cell; a method that keeps a number of chunks calls it `keep`.
        runner: the loaded model.
        example: a prompt of the cell.
        chunk_tokens: context tokens of the cell's chunks, None without chunks.
        budget_bytes: for keys and values, beside the weights.
    """
    prompt = device_prompt(example, runner.device)
    around = prompt.context_tokens - prompt.context.numel()
    unit = chunk_tokens or 1
    fields = type(prepared.config).model_fields
    keeps = chunk_tokens is not None and "keep" in fields
    # the other ranks would run the model for what is only allocated here
    alone = {"ranks": "one"} if "ranks" in fields else {}

    def held_bytes(units: int) -> int:
        context = torch.zeros(units * unit, dtype=torch.int64, device=runner.device)
        longer = replace(prompt, context=context, characters=None, spans=None)
        changes = {"keep": units, "chunk_tokens": unit} if keeps else {}
        stores = StoreRunner(runner)
        method = prepared.method(prepared.config.model_copy(update=alone | changes), stores)
        prefilled = method.prefill(longer, no_stages)
        for _ in range(prompt.new_tokens):
            method.step(prefilled, context.new_zeros(1))
        return stores.held_bytes()

    units = largest(held_bytes, budget_bytes)
    if units is None:
        return Fit(budget_bytes, any_length=True)
    return Fit(budget_bytes, units if keeps else None, around + units * unit if units else 0)


def largest(size: Callable[[int], int], most: int) -> int | None:
    """The largest n with size(n) ≤ most, 0 where not even 1 is, None where all do; `size` never falls.

    The line through the first two sizes says where to look; what is returned and the next larger n were both asked.
    All do where neither one more nor twice as many take more.
    """
    first = size(1)
    if first > most:
        return 0
    step = 1 if size(2) > first else LONG
    slope = (size(1 + step) - first) / step
    if not slope:
        return None
    n = 1 + int((most - first) / slope)
    while size(n) > most:
        n -= 1
    while size(n + 1) <= most:
        if size(n) == size(n + 1) == size(2 * n):
            return None
        n += 1
    return n
