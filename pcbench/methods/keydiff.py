"""KeyDiff: keeps the keys that differ most from the others of their head."""

from pcbench.methods.eviction import Eviction, KeysConfig, Policy
from pcbench.methods.eviction.budgets import Uniform
from pcbench.methods.eviction.scores import KeyDifference
from pcbench.types import ModelSpec

__all__ = ["KeyDiff"]


class KeyDiff(Eviction):
    """Keys least like the mean direction of their head's keys: KeyDiff, arXiv:2504.15364."""

    class Config(KeysConfig):
        """Those of methods that look at keys only."""

        def policy(self, spec: ModelSpec, tokens: int) -> Policy:
            return Policy(KeyDifference(), Uniform(), 1, self.sink, self.recent)
