"""The interfaces of transformers to attention, masks and caches, spelled once for every version that is supported."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.modeling_outputs import BaseModelOutputWithPast

from pcbench.errors import ConfigError
from pcbench.types import AttentionPlan, KVStore, Ops, RaggedKVStore

__all__ = ["CACHE", "INTERFACE", "Call", "Seen", "attention", "planned", "recomputed", "witnessed"]

# what a model's forward and its output call the cache: `cache` since transformers 5.24
CACHE = "cache" if "cache" in {field.name for field in fields(BaseModelOutputWithPast)} else "past_key_values"

# the name under which our attention is registered with transformers
INTERFACE = "pcbench"


@dataclass(frozen=True)
class Call:
    """What one forward hands to its attention layers; it lives for that forward only.

    Args:
        plan: attention of every layer.
        store: what it reads; None where nothing is cached.
        ops: what it computes with.
        device: of the store.
        dtype: of the model, and of the store.
    """

    plan: AttentionPlan
    store: KVStore | RaggedKVStore | None
    ops: Ops
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True, eq=False)
class Seen:
    """What an attention layer handed to the interface: its module, q, k, v, mask and named options."""

    module: Any
    q: Tensor
    k: Tensor
    v: Tensor
    mask: Any
    options: dict[str, Any]


# families differ in what they hand on to their attention, so the call travels beside their arguments
CALL: ContextVar[Call] = ContextVar("call")
WITNESS: ContextVar[Callable[[Seen], None] | None] = ContextVar("witness", default=None)


def planned_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any = None, *_: Any, **options: Any
) -> tuple[Tensor, None]:
    """The attention interface's function: asks the plan for this layer; [M, H, T, D] in, [M, T, H, D] out.

    Under autocast, too, a plan computes in the dtype of the model: its matmuls would be cast one by one.

    Raises:
        ConfigError: attention weights are to be dropped.
    """
    call, here, witness = CALL.get(), query.device, WITNESS.get()
    if witness is not None:
        witness(Seen(module, query, key, value, attention_mask, options))
    if options.get("dropout"):
        raise ConfigError(
            f"attach: attention without dropout, got {options['dropout']} in train mode; load the model "
            "with attention_dropout=0"
        )
    # the layers of a model may lie on several devices, the store on one
    q, k, v = (x.to(call.device) for x in (query, key, value))
    kind, rest = call.device.type, (call.store, call.ops)
    if torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            out = call.plan(module.layer_idx, *(x.to(call.dtype) for x in (q, k, v)), *rest)
    else:
        out = call.plan(module.layer_idx, q, k, v, *rest)
    return out.to(here).transpose(1, 2).contiguous(), None


def no_mask(*_: Any, **__: Any) -> None:
    """Which keys a row sees is decided by the plan."""


AttentionInterface.register(INTERFACE, planned_attention)
AttentionMaskInterface.register(INTERFACE, no_mask)


@contextmanager
def attention(model: Any, name: str) -> Iterator[None]:
    """Forwards of `model` inside compute attention by the interface of that name."""
    config = model.config
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


@contextmanager
def planned(model: Any, call: Call) -> Iterator[None]:
    """Attention layers of `model` inside ask the call's plan."""
    token = CALL.set(call)
    try:
        with attention(model, INTERFACE):
            yield
    finally:
        CALL.reset(token)


@contextmanager
def recomputed(model: Any, call: Call) -> Iterator[None]:
    """Layers of `model` that are checkpointed inside ask the call's plan once more when a backward pass runs them."""
    name = "_gradient_checkpointing_func"
    before = [(part, vars(part)[name]) for part in model.modules() if name in vars(part)]
    again = {"use_reentrant": False, "context_fn": lambda: (nullcontext(), planned(model, call))}
    for part, run in before:
        setattr(part, name, functools.partial(run, **again))
    try:
        yield
    finally:
        for part, run in before:
            setattr(part, name, run)


@contextmanager
def witnessed(witness: Callable[[Seen], None]) -> Iterator[None]:
    """Every planned attention layer that runs inside is shown to `witness` before its plan is asked."""
    token = WITNESS.set(witness)
    try:
        yield
    finally:
        WITNESS.reset(token)
