"""StreamingLLM: attention sinks and a window that rolls."""

from typing import Literal

from pcbench.methods.eviction import Eviction, EvictionConfig, Policy
from pcbench.methods.eviction.budgets import Uniform
from pcbench.methods.eviction.decoding import Oldest
from pcbench.methods.eviction.scores import Nothing
from pcbench.types import ModelSpec

__all__ = ["RollingConfig", "StreamingLLM"]


class RollingConfig(EvictionConfig):
    """Parameters of a rolling window.

    Args:
        decode: evict: every new token displaces the oldest behind the sinks; grow: the cache grows.
    """

    decode: Literal["evict", "grow"] = "evict"

    def policy(self, spec: ModelSpec, tokens: int) -> Policy:
        sink = min(self.sink, tokens - 1)
        decoding = Oldest(sink) if self.decode == "evict" else None
        return Policy(Nothing(), Uniform(), 1, sink, tokens - sink, decoding=decoding)


class StreamingLLM(Eviction):
    """The first tokens, which every query attends to, and the last ones: StreamingLLM, arXiv:2309.17453."""

    class Config(RollingConfig):
        """Those of a rolling window."""
