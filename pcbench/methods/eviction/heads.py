"""Which kv-heads share the queries and keys of one of them: a class that is `Heads`."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcbench.types import ModelSpec

__all__ = ["FirstTokens", "linked"]

# tokens of a prompt that the paper finds enough
FIRST = 5


@dataclass(frozen=True)
class FirstTokens:
    """Heads that attend alike among the first five tokens of a prompt: CHAI, arXiv:2403.08058.

    What is compared of a kv-head is the attention weights of its query heads there, one after another, by their
    cosine; the clusters of average linkage take the queries and keys of their first kv-head. On the host, once a
    request and layer.

    Args:
        counts: of each layer, its clusters.
        causal: a token sees no later one; in the released code all five see each other.
    """

    counts: Sequence[int]
    causal: bool = True

    def __call__(self, layer: int, spec: ModelSpec, q: Tensor, k: Tensor, lengths: Tensor | None) -> Tensor:
        weights = self._weights(spec, q, k, lengths)
        unit = torch.nn.functional.normalize(weights.unflatten(1, (k.shape[1], -1)).flatten(2), dim=-1)
        clusters = [linked(distance, self.counts[layer]) for distance in 1 - unit @ unit.mT]
        return torch.stack(clusters).to(q.device)

    def _weights(self, spec: ModelSpec, q: Tensor, k: Tensor, lengths: Tensor | None) -> Tensor:
        """[B, H, T, T] float64 on the CPU: attention of the first tokens to each other; 0 where a row has none."""
        q, k = (x[:, :, :FIRST].double().cpu() for x in (q, k))
        place = torch.arange(q.shape[2])
        there = torch.ones(1, len(place), dtype=torch.bool) if lengths is None else place < lengths.cpu()[:, None]
        seen = there[:, None, None]
        if self.causal:
            seen = seen & (place <= place[:, None])
        scores = q @ k.repeat_interleave(q.shape[1] // k.shape[1], 1).mT * spec.scale
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        return weights.masked_fill(~there[:, None, :, None], 0.0)


def linked(distance: Tensor, count: int) -> Tensor:
    """Clusters by average linkage.

    The two nearest become one until `count` are left, of equals the earlier two; clusters are as far from each other
    as their members are in the mean.

    Args:
        distance: [n, n] float64, symmetric.
        count: 1…n.

    Returns:
        [n] int64, the first member of each one's cluster.
    """
    first, size = torch.arange(len(distance)), torch.ones(len(distance), dtype=torch.float64)
    between = ((distance + distance.mT) / 2).fill_diagonal_(torch.inf)
    for _ in range(len(distance) - count):
        a, b = divmod(int(between.argmin()), len(distance))
        between[a] = between[:, a] = (size[a] * between[a] + size[b] * between[b]) / (size[a] + size[b])
        between[a, a] = between[b] = between[:, b] = torch.inf
        size[a] += size[b]
        first[first == b] = a
    return first
