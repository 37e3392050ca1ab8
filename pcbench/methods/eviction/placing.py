"""At which positions stored keys stand: classes that are `Placing`."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pcbench.types import RaggedKVStore, Rotary

__all__ = ["Renumbered"]


@dataclass
class Renumbered:
    """Positions inside the cache, as StreamingLLM (arXiv:2309.17453) gives them, for a window behind sinks.

    What counts is how far keys stand from a query. So the window keeps its positions, and the first `sink` keys move
    to stand right before it: one further with every token that goes. They are rotated from copies as they were read,
    so that rounding does not add up.

    Args:
        sink: first keys that move.
        moved: layer → [B, Hkv], how far they stand from where they were read.
    """

    sink: int
    moved: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, layer: int, store: RaggedKVStore, rotary: Rotary) -> None:
        keys, first = store.rows(layer).k_rows, store.aside[layer]
        # a segment with fewer keys repeats its last one
        last = (store.lengths[layer] - 1).clamp_min(0)[..., None]
        place = store.starts[layer][..., None] + torch.arange(self.sink, device=keys.device).minimum(last)
        place = place.long()
        here = keys[place]
        by = (store.seen[:, None] - store.lengths[layer]).clamp_min(0)
        moved = self.moved.setdefault(layer, torch.zeros_like(by))
        first.copy_(torch.where((moved == 0)[..., None, None], here, first))
        moved.copy_(by)
        is_first = (store.positions[layer][place] < self.sink)[..., None]
        keys[place] = torch.where(is_first, rotary.rotated(layer, first, by[..., None]), here)
