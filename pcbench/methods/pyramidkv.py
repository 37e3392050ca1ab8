"""PyramidKV: SnapKV with more tokens in early layers."""

from pcbench.config import Count
from pcbench.methods.eviction import Eviction, Policy
from pcbench.methods.eviction.budgets import Pyramid
from pcbench.methods.snapkv import WindowConfig
from pcbench.types import ModelSpec

__all__ = ["PyramidKV"]


class PyramidKV(Eviction):
    """SnapKV's votes with budgets that shrink from the first layer to the last: PyramidKV, arXiv:2406.02069."""

    class Config(WindowConfig):
        """SnapKV's parameters and two of the pyramid.

        Args:
            beta: the last layer selects 1 / beta of the mean.
            reverse: the last layer keeps the most, for ablations.
        """

        beta: Count = 20
        reverse: bool = False

        def policy(self, spec: ModelSpec, tokens: int) -> Policy:
            budgets = Pyramid(self.beta, self.window, self.reverse, whole_steps=self.preset == "released")
            return Policy(self.votes(), budgets, self.max_pool, self.sink, self.window)
