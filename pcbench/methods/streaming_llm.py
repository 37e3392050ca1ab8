"""StreamingLLM: keeps the first tokens, called attention sinks, and a rolling window of recent ones."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from pcbench.errors import ConfigError
from pcbench.methods.eviction import Eviction, EvictionConfig, Policy
from pcbench.methods.eviction.budgets import Uniform
from pcbench.methods.eviction.decoding import Oldest
from pcbench.methods.eviction.placing import Renumbered
from pcbench.methods.eviction.scores import Nothing
from pcbench.types import DeviceKind, ModelSpec

__all__ = ["RollingConfig", "StreamingLLM"]

# of which UNComp's baseline keeps five at the beginning and one at the end
PARTS = 7
# of both: what is stored stays where it was read
UNROLLED: Mapping[str, Any] = {"positions": "kept", "decode": "grow"}


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
        """Those of a rolling window and two more.

        Args:
            positions: renumbered: those inside the cache, as in the paper, so that no distance outgrows the cache
                while it decodes; kept: those of the text, as in KVCache-Factory.
            preset: released: KVCache-Factory's LongBench setting (commit c97f9d7); uncomp-released: the baseline of
                UNComp's repository (commit b3e9f7b): of 512 tokens 365 first and 73 last ones, five and one of seven
                parts.
        """

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"released": UNROLLED, "uncomp-released": UNROLLED}

        positions: Literal["renumbered", "kept"] = "renumbered"
        preset: Literal["released", "uncomp-released"] | None = None

        def resolve(self, spec: ModelSpec, device: DeviceKind, task: str = "") -> Self:
            """The size and the preset's values; ConfigError: a number that the latter cannot divide."""
            config = super().resolve(spec, device, task)
            if self.preset != "uncomp-released" or "sink" in self.model_fields_set:
                return config
            if config.tokens is None or config.tokens < PARTS:
                given = f"share = {config.share}" if config.tokens is None else f"tokens = {config.tokens}"
                raise ConfigError(
                    f"streaming_llm: {PARTS} tokens at least with uncomp-released, got {given}; give as many, or sink"
                )
            part = config.tokens // PARTS
            return config.model_copy(update={"tokens": (PARTS - 1) * part, "sink": (PARTS - 2) * part})

        def policy(self, spec: ModelSpec, tokens: int) -> Policy:
            policy = super().policy(spec, tokens)
            if self.positions == "kept" or not policy.sink:
                return policy
            return replace(policy, placing=Renumbered(policy.sink), rotary=True)
