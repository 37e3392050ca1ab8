"""SnapKV: keeps what the last queries of the prompt attend to, in clusters."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pcbench.config import Count
from pcbench.methods.eviction import Decoding, Eviction, EvictionConfig, Odd, Policy
from pcbench.methods.eviction.budgets import Uniform
from pcbench.methods.eviction.decoding import WindowSum
from pcbench.methods.eviction.scores import Window
from pcbench.types import ModelSpec

__all__ = ["SnapKV", "WindowConfig"]

# the LongBench setting of KVCache-Factory (commit c97f9d7)
RELEASED: Mapping[str, Any] = {"window": 8, "pool": 7, "sink": 0}


class WindowConfig(EvictionConfig):
    """Parameters of methods whose last queries vote.

    Args:
        window: last queries that vote; their tokens stay, within the budget.
        pool: odd width of the pool over the votes of neighbours.
        pooling: max, as released, or avg, as kvpress has it.
        reduce: over the heads of a group.
    """

    window: Count = 32
    pool: Odd = 7
    pooling: Literal["max", "avg"] = "max"
    reduce: Literal["mean", "max"] = "mean"

    @property
    def max_pool(self) -> int:
        """Width of the max-pool."""
        return self.pool if self.pooling == "max" else 1

    def votes(self) -> Window:
        """The window's scores."""
        return Window(self.window, self.reduce, self.pool if self.pooling == "avg" else 1)


class SnapKV(Eviction):
    """Keys that the prompt's last queries attend to, pooled over neighbours: SnapKV, arXiv:2404.14469."""

    class Config(WindowConfig):
        """Those of every method with a window of queries and two more.

        Args:
            decode: grow: the cache grows; evict: every new token displaces the one with the least attention of the
                last `window` queries.
            preset: released: the LongBench setting of KVCache-Factory (commit c97f9d7), whose `kv_head` mode this is;
                uncomp-released: the baseline of UNComp's repository (commit b3e9f7b): a window of 50, which rolls on
                while it decodes (there sums are pooled over neighbours in the cache, and each query head has a cache).
        """

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "released": RELEASED, "uncomp-released": {"window": 50, "pool": 7, "sink": 0, "decode": "evict"},
        }  # fmt: skip

        decode: Literal["grow", "evict"] = "grow"
        preset: Literal["released", "uncomp-released"] | None = None

        def policy(self, spec: ModelSpec, tokens: int) -> Policy:
            return Policy(self.votes(), Uniform(), self.max_pool, self.sink, self.window, decoding=self.decoding())

        def decoding(self) -> Decoding | None:
            """What new tokens displace."""
            return WindowSum(self.window, self.sink, self.window) if self.decode == "evict" else None
