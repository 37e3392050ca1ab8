"""PyramidKV: SnapKV with more tokens in early layers and fewer in later ones."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pcbench.config import Count
from pcbench.methods.eviction import Budgets, Eviction, Policy
from pcbench.methods.eviction.budgets import Pyramid, UNCompPyramid
from pcbench.methods.snapkv import RELEASED, SnapKV
from pcbench.types import ModelSpec

__all__ = ["PyramidKV"]


class PyramidKV(Eviction):
    """SnapKV's votes with budgets that shrink from the first layer to the last: PyramidKV, arXiv:2406.02069."""

    class Config(SnapKV.Config):
        """SnapKV's parameters and two of the pyramid.

        Args:
            beta: the last layer selects 1 / beta of the mean.
            reverse: the last layer keeps the most, for ablations.
            preset: released: as of SnapKV; uncomp-released: the baseline `pyramidkv_generate` of UNComp's repository
                (commit b3e9f7b), which keeps three quarters of `tokens` in the mean and displaces tokens while
                it decodes.
        """

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "released": RELEASED, "uncomp-released": {**RELEASED, "decode": "evict"},
        }  # fmt: skip

        beta: Count = 20
        reverse: bool = False

        def policy(self, spec: ModelSpec, tokens: int) -> Policy:
            budgets: Budgets = Pyramid(self.beta, self.window, self.reverse, whole_steps=self.preset == "released")
            if self.preset == "uncomp-released":
                budgets = UNCompPyramid(self.beta, self.window, self.reverse)
            return Policy(self.votes(), budgets, self.max_pool, self.sink, self.window, decoding=self.decoding())
