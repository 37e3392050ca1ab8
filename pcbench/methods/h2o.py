"""H2O: keeps heavy hitters, the keys that all queries together attend to most, and recent tokens."""

from collections.abc import Mapping
from math import ceil
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pcbench.config import Count
from pcbench.methods.eviction import Eviction, EvictionConfig, Policy
from pcbench.methods.eviction.budgets import Uniform
from pcbench.methods.eviction.decoding import Accumulated
from pcbench.methods.eviction.scores import ColumnMass
from pcbench.types import ModelSpec

__all__ = ["H2O"]


class H2O(Eviction):
    """Keys with the most attention of all queries so far, half of the budget recent: H2O, arXiv:2306.14048."""

    class Config(EvictionConfig):
        """H2O's parameters.

        Args:
            heavy: share of the budget for heavy hitters, the rest is for recent tokens.
            recent: tokens for them instead of a share.
            score: sum: of all queries' attention; mean: over the queries that could see the key.
            decode: evict: every new token displaces the one with the smallest sum; grow: the cache grows.
            preset: released: KVCache-Factory's LongBench setting (commit c97f9d7): 8 recent tokens, no eviction while
                decoding; uncomp-released: the baseline of UNComp's repository (commit b3e9f7b): of 512 tokens 4 heavy
                hitters, of any number one at least.
        """

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "released": {"recent": 8, "decode": "grow", "sink": 0}, "uncomp-released": {"heavy": 4 / 512, "sink": 0},
        }  # fmt: skip

        heavy: Annotated[float, Field(ge=0, le=1)] = 0.5
        recent: Count | None = None
        score: Literal["sum", "mean"] = "sum"
        decode: Literal["evict", "grow"] = "evict"
        preset: Literal["released", "uncomp-released"] | None = None

        def policy(self, spec: ModelSpec, tokens: int) -> Policy:
            heavy = self.heavy * tokens
            hitters = ceil(heavy) if self.preset == "uncomp-released" else round(heavy)
            recent = tokens - hitters if self.recent is None else self.recent
            decoding = Accumulated(self.sink, recent) if self.decode == "evict" else None
            return Policy(ColumnMass(self.score == "mean"), Uniform(), 1, self.sink, recent, decoding=decoding)
