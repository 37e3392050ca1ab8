"""What the compiled ops do without data and with gradients: shapes for tracing, and a refusal."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["COMPOSITES", "refuse_gradients", "register"]

# ops that are Python over other ops
COMPOSITES = ("chunk_select",)


@cache
def register() -> None:
    """Registers the fakes and the refusal of gradients for every op of the loaded schema."""
    for name, fake in FAKES.items():
        torch.library.register_fake(f"pcbench::{name}", _of_one_device(fake))
    torch.library.register_fake("pcbench::_logits", _of_one_device(_changes_only))
    library = torch.library.Library("pcbench", "IMPL")
    for name in FAKES:
        library.impl(name, _Refusing(name), "Autograd", with_keyset=True)
    # a library that is collected takes its registrations along
    _kept.append(library)


def refuse_gradients(op: str, *inputs: Tensor | None) -> None:
    """Raises where grad mode is on and an input requires grad: the kernels have no backward."""
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
        raise RuntimeError(
            f"{op}: compiled ops have no gradient, got an input that requires grad; call it under torch.no_grad()"
        )


class _Refusing:
    """The Autograd kernel of an op: refuses gradients, then goes on to the next dispatch key."""

    def __init__(self, name: str) -> None:
        self.__name__ = name
        self.op = getattr(torch.ops.pcbench, name).default

    def __call__(self, keys: Any, *args: Any, **kwargs: Any) -> Any:
        values = (*args, *kwargs.values())
        refuse_gradients(self.__name__, *(x for x in values if isinstance(x, Tensor)))
        return self.op.redispatch(keys & torch._C._after_autograd_keyset, *args, **kwargs)


_kept: list[torch.library.Library] = []


def _of_one_device(fake: Callable[..., Any]) -> Callable[..., Any]:
    """Refuses tensors of several devices: one on meta calls the fake whatever the others are on."""

    def call(*args: Any, **kwargs: Any) -> Any:
        devices = {x.device for x in (*args, *kwargs.values()) if isinstance(x, Tensor)}
        if len(devices) > 1:
            raise RuntimeError(f"tensors of one device, got {', '.join(map(str, devices))}")
        return fake(*args, **kwargs)

    return call


def _calibrated_attention(
    q: Tensor, k: Tensor, v: Tensor, *, mass_rows: int = 0, out_in: Tensor | None = None, **_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    out = q.new_empty(q.shape, dtype=q.dtype if out_in is None else torch.float32)
    mass = q.new_empty((*q.shape[:2], k.shape[2] if mass_rows else 0), dtype=torch.float32)
    return out, q.new_empty(q.shape[:3], dtype=torch.float32), mass


def _out_and_lse(q: Tensor, *_: Tensor, **__: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=torch.float32)


def _decode_attention(
    q: Tensor, k_rows: Tensor, v_rows: Tensor, starts: Tensor, lengths: Tensor, *, longest: int, **_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    state = q.new_empty(q.shape[:2], dtype=torch.float32)
    return q.new_empty(q.shape), state, q.new_empty((*starts.shape, longest), dtype=torch.float32)


def _window_mass(
    q_last: Tensor,
    lse: Tensor,
    k_rows: Tensor,
    starts: Tensor,
    lengths: Tensor,
    slots: Tensor,
    *,
    longest: int,
    **_: Any,
) -> Tensor:
    return q_last.new_empty((*slots.shape, q_last.shape[1], longest), dtype=torch.float32)


def _key_mass(q: Tensor, k: Tensor, lse: Tensor, *, mass_rows: int, **_: Any) -> Tensor:
    return q.new_empty((*q.shape[:2], k.shape[2] if mass_rows else 0), dtype=torch.float32)


def _merge_states(outs: Tensor, lses: Tensor) -> tuple[Tensor, Tensor]:
    return outs.new_empty(outs.shape[1:]), lses.new_empty(lses.shape[1:])


def _changes_only(*_: Any) -> None:
    return None


def _chunk_topk(scores: Tensor, chunk_ids: Tensor, slots: Tensor, *_: Tensor) -> Tensor:
    return slots.new_empty(slots.shape)


def _select_tokens(
    mass: Tensor, k: Tensor, v: Tensor, *, capacity: int, **_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    head = k.shape[:2]
    k2, v2 = (k.new_empty((*head, capacity, k.shape[3])) for _ in range(2))
    return k2, v2, k.new_empty((*head, capacity), dtype=torch.int32), k.new_empty(head, dtype=torch.int32)


FAKES: dict[str, Callable[..., Any]] = {
    "cached_attention": _out_and_lse,
    "calibrated_attention": _calibrated_attention,
    "chunk_topk": _chunk_topk,
    "decode_attention": _decode_attention,
    "dual_chunk_attention": _out_and_lse,
    "key_mass": _key_mass,
    "merge_states": _merge_states,
    "quantized_attention": _out_and_lse,
    "query_nll_update": _changes_only,
    "select_tokens": _select_tokens,
    "window_mass": _window_mass,
}
