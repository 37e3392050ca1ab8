"""What a token of the prompt is worth: classes that are `Scores`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pcbench.methods.eviction.policy import Prompted, last_tokens

__all__ = ["ColumnMass", "KeyDifference", "KeyNorm", "LastQuery", "Nothing", "Random", "Window", "group_scores"]


def group_scores(scores: Tensor, kv_heads: int, reduce: str) -> Tensor:
    """[B, H, S] → [B, Hkv, S], mean or max over each group's heads."""
    grouped = scores.unflatten(1, (kv_heads, -1))
    return grouped.amax(2) if reduce == "max" else grouped.mean(2)


@dataclass(frozen=True)
class Window:
    """The attention of the last `window` queries, as SnapKV (arXiv:2404.14469) has it.

    Args:
        window: queries.
        reduce: over the heads of a group.
        average: odd width of an average over the votes of neighbours, in which the window's own count nothing; 1 for
            none.
    """

    window: int
    reduce: str = "mean"
    average: int = 1

    def rows(self, tokens: int) -> int:
        return self.window

    def __call__(self, prompted: Prompted) -> Tensor:
        votes = group_scores(prompted.mass, prompted.spec.kv_heads, self.reduce)
        if self.average == 1:
            return votes
        votes = votes.masked_fill(last_tokens(prompted, self.window), 0.0)
        return torch.nn.functional.avg_pool1d(votes, self.average, stride=1, padding=self.average // 2)


@dataclass(frozen=True)
class ColumnMass:
    """The attention of all queries, as H2O (arXiv:2306.14048) accumulates it.

    Args:
        mean: divided by how many queries could see the key; the sum favours early keys.
    """

    mean: bool = False

    def rows(self, tokens: int) -> int:
        return tokens

    def __call__(self, prompted: Prompted) -> Tensor:
        mass = prompted.mass
        if not self.mean:
            return mass
        seen_by = torch.arange(mass.shape[2], 0, -1, device=mass.device)[None]
        if prompted.lengths is not None:
            seen_by = seen_by - mass.shape[2] + prompted.lengths[:, None]
        return mass / seen_by.clamp_min(1)[:, None]


class LastQuery:
    """The last query's attention, its mean over all heads of the layer, as TOVA (arXiv:2401.06104) has it."""

    def rows(self, tokens: int) -> int:
        return 1

    def __call__(self, prompted: Prompted) -> Tensor:
        return prompted.mass.mean(1, keepdim=True).expand(-1, prompted.spec.kv_heads, -1).contiguous()


class KeyNorm:
    """Keys of a small L2 norm are worth more, arXiv:2406.11430."""

    def rows(self, tokens: int) -> int:
        return 0

    def __call__(self, prompted: Prompted) -> Tensor:
        return -prompted.k.float().norm(dim=-1)


class KeyDifference:
    """Keys unlike the mean direction of their head's keys are worth more: KeyDiff, arXiv:2504.15364."""

    def rows(self, tokens: int) -> int:
        return 0

    def __call__(self, prompted: Prompted) -> Tensor:
        unit = torch.nn.functional.normalize(prompted.k.float(), dim=-1)
        if prompted.lengths is not None:
            j = torch.arange(unit.shape[2], device=unit.device)
            unit = unit.masked_fill((j >= prompted.lengths[:, None])[:, None, :, None], 0.0)
        mean = torch.nn.functional.normalize(unit.sum(2, keepdim=True), dim=-1)
        return -(unit * mean).sum(-1)


class Random:
    """A random number: what any rule must beat."""

    def rows(self, tokens: int) -> int:
        return 0

    def __call__(self, prompted: Prompted) -> Tensor:
        batch, kv_heads, tokens, _ = prompted.k.shape
        generator = torch.Generator().manual_seed((prompted.seed * prompted.spec.layers + prompted.layer) % 2**63)
        # a prompt's do not hang on the longer ones of its batch
        scores = torch.rand((tokens, kv_heads), generator=generator).T.to(prompted.k.device)
        return scores.expand(batch, -1, -1).contiguous()


class Nothing:
    """Every token is worth the same: protected ones stay, then early ones."""

    def rows(self, tokens: int) -> int:
        return 0

    def __call__(self, prompted: Prompted) -> Tensor:
        return torch.zeros(prompted.k.shape[:3], device=prompted.k.device)
