"""Random tokens: a choice by chance, which any rule should beat."""

from pcbench.methods.eviction import Eviction, KeysConfig, Policy
from pcbench.methods.eviction.budgets import Uniform
from pcbench.methods.eviction.scores import Random
from pcbench.types import ModelSpec

__all__ = ["RandomTokens"]


class RandomTokens(Eviction):
    """Random keys beside the first and last ones: what a rule must beat."""

    class Config(KeysConfig):
        """Those of methods that look at keys only; the choice comes from the prompt's seed."""

        def policy(self, spec: ModelSpec, tokens: int) -> Policy:
            return Policy(Random(), Uniform(), 1, self.sink, self.recent)
