"""Methods of one rule: TOVA, Knorm, KeyDiff, a random choice."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pcbench.methods.eviction import Eviction, EvictionConfig, Policy
from pcbench.methods.eviction.budgets import Uniform, WholeFirst
from pcbench.methods.eviction.decoding import WindowSum
from pcbench.methods.eviction.scores import KeyDifference, KeyNorm, LastQuery, Random
from pcbench.types import ModelSpec

__all__ = ["TOVA", "KeyDiff", "Knorm", "RandomTokens"]


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


class KeysConfig(EvictionConfig):
    """Parameters of methods that look at keys only.

    Args:
        recent: last tokens that stay.
    """

    recent: Annotated[int, Field(ge=0)] = 32


class Knorm(Eviction):
    """Keys with the smallest L2 norm, arXiv:2406.11430."""

    class Config(KeysConfig):
        """Knorm's parameters.

        Args:
            whole_layers: first layers that keep every token, beside the budgets of the others.
            preset: released: KVCache-Factory's (commit c97f9d7): the first two layers whole, nothing protected.
        """

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"released": {"whole_layers": 2, "recent": 0, "sink": 0}}

        whole_layers: Annotated[int, Field(ge=0)] = 0
        preset: Literal["released"] | None = None

        def policy(self, spec: ModelSpec, tokens: int) -> Policy:
            budgets = WholeFirst(self.whole_layers, Uniform()) if self.whole_layers else Uniform()
            return Policy(KeyNorm(), budgets, 1, self.sink, self.recent)


class KeyDiff(Eviction):
    """Keys least like the mean direction of their head's keys: KeyDiff, arXiv:2504.15364."""

    class Config(KeysConfig):
        """Those of methods that look at keys only."""

        def policy(self, spec: ModelSpec, tokens: int) -> Policy:
            return Policy(KeyDifference(), Uniform(), 1, self.sink, self.recent)


class RandomTokens(Eviction):
    """Random keys beside the first and last ones: what a rule must beat."""

    class Config(KeysConfig):
        """Those of methods that look at keys only; the choice comes from the prompt's seed."""

        def policy(self, spec: ModelSpec, tokens: int) -> Policy:
            return Policy(Random(), Uniform(), 1, self.sink, self.recent)
