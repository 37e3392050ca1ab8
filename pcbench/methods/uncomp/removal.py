"""Heads that are removed: their query heads take the outputs of the kv-head whose keys are the most alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pcbench.methods.eviction import Prompted

__all__ = ["MostAlike"]


@dataclass
class MostAlike:
    """Copies by the cosine of the prompt's last keys, of a kv-head one after another: UNComp, arXiv:2410.03090.

    Args:
        labels: of each layer, the group of each kv-head; −1 is removed.
        window: last keys that are compared.
        sources: layer → [B, Hkv] int64, whose outputs each kv-head's query heads take.
    """

    labels: Sequence[Sequence[int]]
    window: int = 8
    sources: dict[int, Tensor] = field(default_factory=dict)

    def begin(self, prompted: Prompted) -> None:
        keys = self._last(prompted).flatten(2)
        unit = torch.nn.functional.normalize(keys, dim=-1)
        removed = torch.tensor([label < 0 for label in self.labels[prompted.layer]], device=keys.device)
        nearest = (unit @ unit.mT).masked_fill(removed, -torch.inf).argmax(-1)
        own = torch.arange(len(removed), device=keys.device)
        self.sources[prompted.layer] = torch.where(removed, nearest, own)

    def _last(self, prompted: Prompted) -> Tensor:
        """[B, Hkv, window, D] float32: the last keys of each row, zeros before its first."""
        k = prompted.k.float()
        lengths = prompted.lengths
        if lengths is None:
            return k[:, :, -self.window :]
        row = lengths[:, None].long() - self.window + torch.arange(self.window, device=k.device)
        index = row.clamp_min(0)[:, None, :, None].expand(-1, k.shape[1], -1, k.shape[3])
        return k.gather(2, index).masked_fill((row < 0)[:, None, :, None], 0.0)

    def __call__(self, layer: int, out: Tensor) -> Tensor:
        source = self.sources[layer]
        grouped = out.unflatten(1, (source.shape[1], -1))
        return grouped.gather(1, source[..., None, None, None].expand_as(grouped)).flatten(1, 2)
