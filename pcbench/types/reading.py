"""What methods may offer beside a `Method`: reading a text that is given, whose loss can then be taken."""

from typing import TYPE_CHECKING, Protocol

from pcbench.types.protocols import Method, Prefilled, Prompt

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Reads", "ReadsWhole"]


class Reads(Method, Protocol):
    """A method that goes on with tokens that are given: optional, measurements of a text's loss ask for it.

    A method without `read` is left out there, which its record says.
    """

    def read(self, prefilled: Prefilled, tokens: "Tensor") -> "Tensor":
        """Takes tokens [T] int64 into the state in one forward, each after the one before it.

        They fit in the `new_tokens` that the prompt reserved.

        Returns:
            Their last hidden rows [T, E], final norm applied; `ModelRunner.logits` of row i predicts the next token.
        """
        ...


class ReadsWhole(Reads, Protocol):
    """One that leaves nothing out, so that every token of a prompt has a loss given all before it: optional, too."""

    def rows(self, prompt: Prompt) -> "Tensor | None":
        """Last hidden rows [A + N + n, E] of prefix, context and query from one forward, as they are prefilled.

        Row i does not depend on later tokens, nor on how many there are; None where it would with this config.
        """
        ...
