"""Expected attention: keeps what future queries are expected to attend to."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from pcbench.config import Count
from pcbench.methods.eviction import Eviction, KeysConfig, Policy, Prompted
from pcbench.methods.eviction.budgets import Uniform
from pcbench.types import ModelSpec

__all__ = ["Expected", "ExpectedAttention"]


@dataclass(frozen=True)
class Expected:
    """exp(score) of a Gaussian query, expected over the positions that follow.

    Queries of the prompt before rotary embedding have mean μ and covariance Σ; the mean rotation over the next
    positions makes them μ' and Σ'. A key is worth softmax over the keys of scale·k·μ' + scale²·kᵀΣ'k / 2, its mean
    over the heads of a group, times ε + ‖v‖.

    Args:
        future: positions.
        skip: first tokens, which are neither counted nor scored.
        covariance: Σ has its say.
        values: the norm of a value has its say.
        epsilon: added to the softmax.
    """

    future: int
    skip: int
    covariance: bool = True
    values: bool = True
    epsilon: float = 0.0

    def rows(self, tokens: int) -> int:
        return 0

    def __call__(self, prompted: Prompted) -> Tensor:
        rotary, layer, q = prompted.rotary, prompted.layer, prompted.q.float()
        assert rotary is not None
        batch, _, tokens, _ = q.shape
        place = torch.arange(tokens, device=q.device)
        lengths = place.new_full((batch,), tokens) if prompted.lengths is None else prompted.lengths.long()
        counted = (place >= self.skip) & (place < lengths[:, None])
        share = counted / counted.sum(1, keepdim=True).clamp_min(1)
        plain = rotary.rotated(layer, q, -place).masked_fill(~counted[:, None, :, None], 0.0)
        turn = self._turn(prompted, lengths)[:, None]
        mean = torch.einsum("bhsd,bs->bhd", plain, share)
        groups = (prompted.k.shape[1], -1)
        keys = prompted.k.float()[:, :, None]
        to_come = (mean[:, :, None] @ turn).unflatten(1, groups)
        scores = (keys @ to_come.mT)[..., 0] * prompted.spec.scale
        if self.covariance:
            centred = (plain - mean[:, :, None]) * share.sqrt()[:, None, :, None]
            spread = (turn.mT @ (centred.mT @ centred) @ turn).unflatten(1, groups)
            scores = scores + ((keys @ spread) * keys).sum(-1) * (prompted.spec.scale**2 / 2)
        worth = scores.masked_fill(~counted[:, None, None], -torch.inf).softmax(-1).mean(2) + self.epsilon
        return worth * prompted.v.float().norm(dim=-1) if self.values else worth

    def _turn(self, prompted: Prompted, lengths: Tensor) -> Tensor:
        """[B, D, D] float32: the mean rotation over the positions behind each row, for rows times it."""
        rotary, dim = prompted.rotary, prompted.q.shape[3]
        assert rotary is not None
        ahead = torch.arange(self.future, device=lengths.device)[:, None]
        unit = torch.eye(dim, device=lengths.device)
        mean = rotary.rotated(prompted.layer, unit.expand(self.future, dim, dim), ahead).mean(0)
        return rotary.rotated(prompted.layer, mean.expand(len(lengths), dim, dim), lengths[:, None])


class ExpectedAttention(Eviction):
    """Keys that queries of the next positions would attend to, times the norm of their values: arXiv:2510.00636."""

    class Config(KeysConfig):
        """Expected attention's parameters; those of kvpress are `recent = 0` and these defaults.

        Args:
            future: next positions that are expected.
            covariance: the spread of the queries has its say, not their mean alone.
            values: worth is times the norm of the value.
            epsilon: added to the expected attention before that.
        """

        future: Count = 512
        covariance: bool = True
        values: bool = True
        epsilon: Annotated[float, Field(ge=0)] = 0.0

        def policy(self, spec: ModelSpec, tokens: int) -> Policy:
            scores = Expected(self.future, self.sink, self.covariance, self.values, self.epsilon)
            return Policy(scores, Uniform(), 1, self.sink, self.recent, rotary=True)
