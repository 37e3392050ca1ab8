"""StreamingLLM: attention sinks and a window that rolls."""

from dataclasses import replace
from typing import Literal

from pcbench.methods.eviction import Eviction, EvictionConfig, Policy
from pcbench.methods.eviction.budgets import Uniform
from pcbench.methods.eviction.decoding import Oldest
from pcbench.methods.eviction.placing import Renumbered
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
        """Those of a rolling window and one more.

        Args:
            positions: renumbered: those inside the cache, as in the paper, so that no distance outgrows the cache
                while it decodes; kept: those of the text, as in KVCache-Factory.
        """

        positions: Literal["renumbered", "kept"] = "renumbered"

        def policy(self, spec: ModelSpec, tokens: int) -> Policy:
            policy = super().policy(spec, tokens)
            if self.positions == "kept" or not policy.sink:
                return policy
            return replace(policy, placing=Renumbered(policy.sink), rotary=True)
