"""What engines of every kind are told and answer."""

from dataclasses import dataclass

__all__ = ["Completion", "Loads"]


@dataclass(frozen=True)
class Loads:
    """What an engine loads that pcbench starts.

    Args:
        model: a folder or a Hugging Face id.
        dtype: of weights and activations.
        tokens: of a prompt with its answer at most.
    """

    model: str
    dtype: str
    tokens: int


@dataclass(frozen=True)
class Completion:
    """What an engine made of a prompt.

    Args:
        tokens: ids of the answer; None where the engine does not tell them.
        text: of the answer.
        first_ms: from the request to the first token of the answer, by the clock of who asked; where nothing comes
            before the end, to that.
        tokens_per_s: of the tokens after the first; None of a single token.
        prefill_ms: of the prompt by the engine's own clock; None where it does not tell.
        cached_tokens: of the prompt that it had already; None where it does not tell.
        warning: of how its times were taken.
    """

    tokens: list[int] | None
    text: str
    first_ms: float
    tokens_per_s: float | None
    prefill_ms: float | None
    cached_tokens: int | None
    warning: str | None = None
