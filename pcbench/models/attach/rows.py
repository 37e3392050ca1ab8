"""The rows of a batch: how many tokens each has, and a plan that finds them at the front of padded rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pcbench.errors import ConfigError
from pcbench.models.attach.cache import RequestCache
from pcbench.types import AttentionPlan, Ops

__all__ = ["BatchRows", "Shifted", "read_rows"]


@dataclass(frozen=True, eq=False)
class BatchRows:
    """New tokens of one forward.

    Args:
        counts: of each row.
        lengths: [B] int32, the same on the device.
        positions: [B, T] int64, where each token stands in its text; 0 for padding at the left.
        shifts: [B] int64, places before the first token of each row.
    """

    counts: Sequence[int]
    lengths: Tensor
    positions: Tensor
    shifts: Tensor

    @property
    def padded(self) -> bool:
        return min(self.counts) < self.positions.shape[1]


def read_rows(
    tokens: Tensor, mask: Any, positions: Any, cache: RequestCache | None, *, right: bool = False
) -> BatchRows:
    """Reads the padding.

    Args:
        tokens: [B, T] ids or [B, T, E] embeddings.
        mask: [B, tokens read before and T], 0 for padding; None where there is none.
        positions: [B or 1, T]; None counts the tokens of each row.
        cache: what was read before; None for a prompt.
        right: there may be padding behind the tokens of a row, too.

    Raises:
        ConfigError: padding elsewhere, another mask than that of the prompt, other positions.
    """
    batch, count = tokens.shape[:2]
    before = 0 if cache is None else cache.tokens
    shape = (batch, before + count)
    if cache is not None and batch != cache.shape[0]:
        raise ConfigError(f"attach: the {cache.shape[0]} rows that its cache holds, got {batch}; start without a cache")
    if mask is None:
        if cache is not None and cache.padded:
            raise ConfigError(
                "attach: attention_mask: that of the padded prompt and what follows, got none; hand it on"
            )
        mask = torch.ones(shape, dtype=torch.bool, device=tokens.device)
    if not isinstance(mask, Tensor) or mask.shape != shape:
        got = list(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise ConfigError(
            f"attach: attention_mask: {list(shape)}, a number for each token that has been read, got {got}; "
            "hand on the tokenizer's, and leave cache_implementation out"
        )
    real = mask.to(tokens.device) != 0
    lengths = real.sum(1)
    ours = (real.cumsum(1) - 1)[:, before:].clamp_min(0)
    is_together = _is_together(real, right)
    is_same = torch.ones_like(is_together)
    if cache is not None:
        is_same = (lengths == cache.seen.to(lengths.device) + count).all()
    is_counted = torch.ones_like(is_together) if positions is None else _same(positions, ours, real[:, before:])
    together, same, counted, *counts = torch.cat([torch.stack([is_together, is_same, is_counted]), lengths]).tolist()
    if not together and right:
        raise ConfigError("attach: attention_mask: tokens of a row side by side, got padding among them; take it out")
    if not together:
        raise ConfigError('attach: attention_mask: padding at the left alone, got another; set padding_side="left"')
    if not same:
        raise ConfigError("attach: attention_mask: the padding of the prompt, got another; hand its mask on")
    if not counted:
        raise ConfigError("attach: position_ids: 0, 1, 2 … for the tokens of a row, got others; leave them out")
    shifts = real.int().argmax(1)
    if cache is not None:
        counts, shifts = [count] * batch, torch.zeros_like(shifts)
    return BatchRows(counts, torch.tensor(counts, dtype=torch.int32, device=tokens.device), ours, shifts)


def _is_together(real: Tensor, right: bool) -> Tensor:
    """Whether the tokens of each row stand side by side, and unless `right` at its end."""
    if not right:
        return (real[:, :-1] <= real[:, 1:]).all()
    begins = real[:, 1:] & ~real[:, :-1]
    return (begins.sum(1) + real[:, 0] <= 1).all()


def _same(positions: Tensor, ours: Tensor, real: Tensor) -> Tensor:
    if positions.ndim != 2 or positions.shape[1] != ours.shape[1]:
        return torch.zeros((), dtype=torch.bool, device=ours.device)
    return ((positions.to(ours.device) == ours) | ~real).all()


@dataclass(frozen=True, eq=False)
class Shifted:
    """A plan for rows with tokens at their front, asked for rows with padding before them.

    Args:
        plan: which.
        shifts: [B] int64, places before the first token of each row.
    """

    plan: AttentionPlan
    shifts: Tensor

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, store: Any, ops: Ops) -> Tensor:
        count = q.shape[2]
        place, by = torch.arange(count, device=q.device), self.shifts.to(q.device)[:, None]
        front = (place + by) % count
        out = self.plan(layer, *(_taken(x, front) for x in (q, k, v)), store, ops)
        return _taken(out, (place - by) % count)


def _taken(rows: Tensor, index: Tensor) -> Tensor:
    """[B, H, T, D] by [B, T]."""
    return rows.gather(2, index[:, None, :, None].expand(-1, rows.shape[1], -1, rows.shape[3]))
