"""What an engine took."""

from dataclasses import dataclass, field

__all__ = ["Served"]


@dataclass
class Served:
    """What a serving engine took for the prompts of a cell.

    Args:
        model: as the engine names it.
        first_ms: to the first token, of the prompts that count.
        prefill_ms: by the engine's own clock, where it tells.
        tokens_per_s: of each answer after its first token.
        cached: prompts that do not count, because some of their tokens came out of a cache.
        held: tokens, of text characters, of full attention's answers that its own were held against.
        differing: of answers that are not those of full attention, where they begin to differ.
    """

    model: str
    first_ms: list[float] = field(default_factory=list)
    prefill_ms: list[float] = field(default_factory=list)
    tokens_per_s: list[float] = field(default_factory=list)
    cached: int = 0
    held: int = 0
    differing: list[str] = field(default_factory=list)
