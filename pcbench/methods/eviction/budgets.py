"""How many tokens each kv-head keeps: classes that are `Budgets`."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcbench.methods.eviction.policy import Budgets
from pcbench.types import ModelSpec

__all__ = ["BestOfLayer", "Pyramid", "Uniform", "WholeFirst"]


class Uniform:
    """Every head of every layer the same."""

    def __call__(self, layer: int, spec: ModelSpec, tokens: int, length: int) -> Sequence[int]:
        return [tokens] * spec.kv_heads


@dataclass(frozen=True)
class Pyramid:
    """More in early layers, linearly less in later ones: PyramidKV, arXiv:2406.02069.

    With B = tokens − window, the last layer selects about B / beta tokens and the first as many more than B as the
    last has fewer; the window is stored beside them. A prompt that the first layer would keep whole gives its rest to
    the later ones; one of fewer than 2·B tokens spreads them evenly. The mean over the layers is `tokens`, give or
    take one, where steps are not whole.

    Args:
        beta: of the paper, 20.
        window: last tokens, which every layer stores.
        reverse: more in late layers, for ablations.
        whole_steps: each layer the same whole number fewer than the one before, as in released code: up to 4 % more in
            the mean.
    """

    beta: int = 20
    window: int = 8
    reverse: bool = False
    whole_steps: bool = False

    def __call__(self, layer: int, spec: ModelSpec, tokens: int, length: int) -> Sequence[int]:
        window = min(self.window, tokens)
        even = tokens - window
        if length <= tokens or length < 2 * even or spec.layers == 1:
            return [tokens] * spec.kv_heads
        least = even // self.beta
        most = 2 * even - least
        if most >= length - window:
            most = length - window
            least = 2 * even - most
        last = spec.layers - 1
        depth = last - layer if self.reverse else layer
        fewer = depth * ((most - least) // last) if self.whole_steps else round(depth * (most - least) / last)
        return [most - fewer + window] * spec.kv_heads


@dataclass(frozen=True)
class WholeFirst:
    """The first layers keep every token, beside the budgets of the others.

    Args:
        layers: that keep everything.
        others: who says how many tokens the other layers keep.
    """

    layers: int
    others: Budgets

    def __call__(self, layer: int, spec: ModelSpec, tokens: int, length: int) -> Sequence[int]:
        return [length] * spec.kv_heads if layer < self.layers else self.others(layer, spec, tokens, length)


@dataclass(frozen=True)
class BestOfLayer:
    """AdaKV's budgets, arXiv:2407.11550: a layer's best tokens stay, whichever heads they are of.

    Every head is sure of `safeguard` of its own budget; the layer's sum is exact, ties go to the earlier head.

    Args:
        safeguard: share, 0…1.
    """

    safeguard: float = 0.2

    def __call__(self, scores: Tensor, budgets: Tensor) -> Tensor:
        batch, kv_heads, tokens = scores.shape
        sure = (budgets * self.safeguard).int().to(scores.device)
        order = scores.argsort(dim=-1, descending=True, stable=True)
        rank = order.argsort(dim=-1)
        flat = scores.masked_fill(rank < sure[..., None], torch.inf).flatten(1)
        best = flat.argsort(dim=-1, descending=True, stable=True)
        total = budgets.sum(1).to(scores.device)
        taken = torch.zeros_like(flat, dtype=torch.bool)
        taken.scatter_(1, best, torch.arange(flat.shape[1], device=flat.device) < total[:, None])
        return taken.view(batch, kv_heads, tokens).sum(-1, dtype=torch.int32)
