"""Attention of the query and of new tokens over the kept chunks."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pcbench.methods.parallel_comp.cache_eviction import CacheEviction
from pcbench.methods.parallel_comp.config import Config, Rule
from pcbench.methods.parallel_comp.layout import Layout
from pcbench.reference.bits import pack_bits
from pcbench.reference.calibration import bias_in_cache
from pcbench.reference.packing import following
from pcbench.reference.stored import stored_attention
from pcbench.types import KVRows, KVStore, ModelRunner, ModelSpec, Ops, Prompt, Stages, no_stages

__all__ = ["QueryPlan", "State", "extend", "read_query"]


@dataclass(frozen=True)
class QueryPlan:
    """Attention of the query and of new tokens over the kept chunks and their own keys."""

    config: Config
    spec: ModelSpec
    slots: Tensor  # [1, K + 1], the last one is the query's own
    eviction: CacheEviction | None
    calibrate: bool
    stages: Stages

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, store: KVStore, ops: Ops) -> Tensor:
        rows = store.rows(layer)
        rules = self.config.rules("global", layer) if self.calibrate else []
        self._hide(layer, [rule for rule in rules if rule.starts_now], q, rows, store, ops)
        out, lse = stored_attention(ops, q, rows, self.slots, scale=self.spec.scale, causal_last=True)
        self._hide(layer, [rule for rule in rules if not rule.starts_now], q, rows, store, ops)
        if self.eviction is not None:
            self.eviction.after(layer, q, lse, store, ops)
        return out

    def _hide(self, layer: int, rules: list[Rule], q: Tensor, rows: KVRows, store: KVStore, ops: Ops) -> None:
        if not rules:
            return
        with self.stages("calibration"):
            biased = bias_in_cache(ops, rules, q, rows, self.slots, scale=self.spec.scale)
            store.evict(layer, self.slots[0], pack_bits(biased))


@dataclass
class State:
    """What decoding goes on from."""

    store: KVStore
    plan: QueryPlan
    position: Tensor  # [1] int64, of the next token
    logits: Tensor = field(init=False)  # [1, V]


def read_query(
    runner: ModelRunner, config: Config, layout: Layout, prompt: Prompt, store: KVStore, kept: tuple[Tensor, Tensor],
    own: Tensor, stages: Stages,
) -> State:  # fmt: skip
    """Encodes the query again over the kept chunks, behind the longest of them.

    Args:
        kept: numbers and slots of the kept chunks, [K] int32.
        own: [1] int32, the slot of the query's and the answer's keys.
    """
    ids, slots = kept
    spec = runner.spec
    store.begin(own)
    # start ids see only each other, so their keys are the same in every chunk: once is enough
    first = ids.where(ids >= 0, len(layout.spans)).min()
    for _ in range(prompt.start_tokens):
        store.skip_first(slots, ids != first)
    ends = torch.tensor([prompt.prefix.numel() + end - start for start, end in layout.spans], device=ids.device)
    everything = torch.cat([slots, own])[None]
    eviction = CacheEviction.of(config, layout, spec, everything, prompt.start_tokens)
    plan = QueryPlan(config, spec, everything, eviction, calibrate=True, stages=stages)
    state = State(store, plan, ends[ids.long()].max()[None])
    extend(runner, prompt.query, state)
    # decoding goes on with what the query stage evicted, and is a stage of its own
    state.plan = replace(plan, calibrate=False, stages=no_stages, eviction=eviction and eviction.for_decoding())
    return state


def extend(runner: ModelRunner, tokens: Tensor, state: State) -> Tensor:
    """Reads tokens [T] at the next positions; their last hidden rows [T, E]."""
    hidden = runner.forward(*following(tokens, state.position), state.store, state.plan, state.plan.stages)
    state.position += tokens.numel()
    state.logits = runner.logits(hidden[:, -1])
    return hidden[0]
