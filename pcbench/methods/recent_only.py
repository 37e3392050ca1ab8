"""Recent tokens only: StreamingLLM without its sinks."""

from pcbench.methods.eviction import Eviction
from pcbench.methods.streaming_llm import RollingConfig

__all__ = ["RecentOnly"]


class RecentOnly(Eviction):
    """The last tokens: what StreamingLLM is without its sinks."""

    class Config(RollingConfig):
        """Those of a rolling window."""

        sink: int = 0
