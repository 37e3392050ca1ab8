"""AdaKV: SnapKV whose heads share the budget of their layer."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pcbench.methods.eviction import Eviction, Policy
from pcbench.methods.eviction.budgets import BestOfLayer, BestWeighed, Uniform
from pcbench.methods.snapkv import RELEASED, WindowConfig
from pcbench.types import ModelSpec

__all__ = ["AdaKV"]


class AdaKV(Eviction):
    """SnapKV's votes, ranked over all heads of a layer: AdaKV, arXiv:2407.11550."""

    class Config(WindowConfig):
        """Those of every method with a window of queries and three of AdaKV.

        Args:
            safeguard: share of its even budget that each head is sure of.
            rule: best: the rest of the layer's budget goes to its best tokens, as in kvpress; weighed: it is shared out
                as the layer's best tokens are, a token weighed by how much of its head's attention the head's even
                budget would hold, as in KVCache-Factory.
            preset: released: the LongBench setting of KVCache-Factory (commit c97f9d7).
        """

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"released": {**RELEASED, "rule": "weighed"}}

        safeguard: Annotated[float, Field(ge=0, le=1)] = 0.2
        rule: Literal["best", "weighed"] = "best"
        preset: Literal["released"] | None = None

        def policy(self, spec: ModelSpec, tokens: int) -> Policy:
            sharing = BestOfLayer(self.safeguard) if self.rule == "best" else BestWeighed(self.safeguard)
            return Policy(self.votes(), Uniform(), self.max_pool, self.sink, self.window, sharing)
