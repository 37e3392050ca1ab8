"""Eviction methods as compositions: who scores tokens, how budgets are spread, what is selected, what decoding does,
which heads share keys.

A method names its choices in `policy`; `Eviction` runs them. What every choice may look at is a `Prompted`, one layer
of a prompt after its attention.
"""

from pcbench.methods.eviction.method import Eviction, EvictionConfig, KeysConfig, Odd, PolicyConfig
from pcbench.methods.eviction.policy import (
    Budgets,
    Copies,
    Decoding,
    Heads,
    Placing,
    Policy,
    Prompted,
    Scores,
    Sharing,
)
from pcbench.methods.eviction.pruning import Pruning

__all__ = [
    "Budgets",
    "Copies",
    "Decoding",
    "Eviction",
    "EvictionConfig",
    "Heads",
    "KeysConfig",
    "Odd",
    "Placing",
    "Policy",
    "PolicyConfig",
    "Prompted",
    "Pruning",
    "Scores",
    "Sharing",
]
