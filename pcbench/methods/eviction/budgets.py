"""How many tokens each kv-head keeps: classes that are `Budgets`."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcbench.methods.eviction.policy import Budgets
from pcbench.types import ModelSpec

__all__ = ["BestOfLayer", "BestWeighed", "Pyramid", "UNCompPyramid", "Uniform", "WholeFirst"]


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
class UNCompPyramid:
    """The pyramid of UNComp's repository (commit b3e9f7b), whose mean is about three quarters of the tokens asked for.

    With T of them, layers go down in whole steps from 3/2·T − T / beta to one step above T / beta. A prompt that the
    first layer would keep whole gives its rest to the later ones; one of less than 3/4·T turns the pyramid over, as
    there.

    Args:
        beta: 20 there.
        least: tokens of a layer at least.
        reverse: more in late layers, for ablations.
    """

    beta: int = 20
    least: int = 8
    reverse: bool = False

    def __call__(self, layer: int, spec: ModelSpec, tokens: int, length: int) -> Sequence[int]:
        total = 3 * tokens // 2
        low = tokens // self.beta
        high = min(total - low, length)
        if high == length:
            low = total - high
        steps = layer + 1 if self.reverse else spec.layers - layer
        kept = low + steps * ((high - low) // spec.layers)
        return [max(min(kept, length), self.least)] * spec.kv_heads


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
        sure = (budgets * self.safeguard).int().to(scores.device)
        order = scores.argsort(dim=-1, descending=True, stable=True)
        rank = order.argsort(dim=-1)
        scores = scores.masked_fill(rank < sure[..., None], torch.inf)
        return _best(scores, budgets.sum(1, keepdim=True).to(scores.device)).int()


@dataclass(frozen=True)
class BestWeighed:
    """AdaKV's budgets as KVCache-Factory (commit c97f9d7) shares them, beside what is protected.

    A token counts by its score times the share of its head's scores that the head's even budget would hold. Each head
    has `safeguard` of its even budget and, of the rest, as large a part as it has of the layer's best tokens. There
    every head is rounded by itself; here the layer's sum is exact, what rounding down leaves goes to the largest
    remainders.

    Args:
        safeguard: share, 0…1.
    """

    safeguard: float = 0.2

    def __call__(self, scores: Tensor, budgets: Tensor) -> Tensor:
        protected = scores.isposinf().sum(-1)
        even = budgets.to(scores.device) - protected
        total = even.sum(1, keepdim=True)
        ranked = scores.masked_fill(scores.isinf(), 0.0).double().sort(dim=-1, descending=True).values
        held = ranked.cumsum(-1).gather(-1, (even - 1).clamp_min(0)[..., None]) / ranked.sum(-1, keepdim=True)
        weighed = torch.where(scores.isinf(), -torch.inf, scores * held.nan_to_num(0.0))
        counts = _best(weighed, total)
        wanted = counts + (even - counts).double() * self.safeguard
        # a part of 1e-9 is what rounding makes of a whole number
        whole = (wanted + 1e-9).floor()
        order = (wanted - whole).argsort(dim=-1, descending=True, stable=True)
        more = order.argsort(dim=-1) < total - whole.sum(-1, keepdim=True)
        return (whole + more + protected).int()


def _best(scores: Tensor, total: Tensor) -> Tensor:
    """[B, Hkv] int64: how many of a row's `total` [B, 1] best tokens each head has, the earlier head's of equals."""
    best = scores.flatten(1).argsort(dim=-1, descending=True, stable=True)
    taken = torch.zeros_like(scores.flatten(1), dtype=torch.bool)
    taken.scatter_(1, best, torch.arange(taken.shape[1], device=taken.device) < total)
    return taken.view(scores.shape).sum(-1)
