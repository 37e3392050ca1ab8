"""Eviction methods as compositions: who scores tokens, how budgets are spread, what is selected, what decoding does.

A method names its choices in `policy`; `Eviction` runs them. What every choice may look at is a `Prompted`, one layer
of a prompt after its attention.
"""

from pcbench.methods.eviction.method import Eviction, EvictionConfig, KeysConfig, Odd
from pcbench.methods.eviction.policy import Budgets, Copies, Decoding, Placing, Policy, Prompted, Scores, Sharing
from pcbench.methods.eviction.pruning import Pruning

__all__ = [
    "Budgets",
    "Copies",
    "Decoding",
    "Eviction",
    "EvictionConfig",
    "KeysConfig",
    "Odd",
    "Placing",
    "Policy",
    "Prompted",
    "Pruning",
    "Scores",
    "Sharing",
]
