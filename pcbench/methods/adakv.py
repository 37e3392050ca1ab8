"""AdaKV: SnapKV's votes, a layer's budget shared by its heads."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from pcbench.methods.eviction import Eviction, Policy
from pcbench.methods.eviction.budgets import BestOfLayer, Uniform
from pcbench.methods.snapkv import WindowConfig
from pcbench.types import ModelSpec

__all__ = ["AdaKV"]


class AdaKV(Eviction):
    """SnapKV's votes, ranked over all heads of a layer: AdaKV, arXiv:2407.11550."""

    class Config(WindowConfig):
        """SnapKV's parameters and one of AdaKV.

        Args:
            safeguard: share of its even budget that each head is sure of; the rest of the layer's budget goes to its
                best tokens, and the sum is exact, as in kvpress. KVCache-Factory's rule is another, so that there is
                no preset of it.
        """

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

        safeguard: Annotated[float, Field(ge=0, le=1)] = 0.2
        preset: None = None

        def policy(self, spec: ModelSpec, tokens: int) -> Policy:
            return Policy(self.votes(), Uniform(), self.max_pool, self.sink, self.window, BestOfLayer(self.safeguard))
