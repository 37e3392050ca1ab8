"""TOVA: keeps what the last query attends to, the same tokens for all heads of a layer."""

from typing import Annotated, Literal

from pydantic import Field

from pcbench.methods.eviction import Eviction, EvictionConfig, Policy
from pcbench.methods.eviction.budgets import Uniform
from pcbench.methods.eviction.decoding import WindowSum
from pcbench.methods.eviction.scores import LastQuery
from pcbench.types import ModelSpec

__all__ = ["TOVA"]


class TOVA(Eviction):
    """Keys that the last query attends to, all heads of a layer together, then token by token: arXiv:2401.06104."""

    class Config(EvictionConfig):
        """TOVA's parameters.

        Args:
            decode: evict: every new token displaces the one its query attends to least; grow: the cache grows.
        """

        sink: Annotated[int, Field(ge=0)] = 0
        decode: Literal["evict", "grow"] = "evict"

        def policy(self, spec: ModelSpec, tokens: int) -> Policy:
            decoding = WindowSum(1, self.sink, 1, everywhere=True) if self.decode == "evict" else None
            return Policy(LastQuery(), Uniform(), 1, self.sink, 1, decoding=decoding)
