"""What stands around a generated context, and how a context is brought to an exact length."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from pcbench.errors import ConfigError
from pcbench.tasks.base import Example, Request
from pcbench.types import Tokenizer

__all__ = ["Frame"]


class Frame:
    """Prefix and query of a prompt, and the tokens between them.

    Args:
        request: which prompt.
        query: text after the context.

    Attributes:
        room: tokens of the context, exact; negative where prefix and query do not fit.
    """

    def __init__(self, request: Request, query: str) -> None:
        encode = request.tokenizer.encode
        self.request = request
        self.prefix = [*request.tokenizer.start_ids, *encode(request.task.instruction)]
        self.query = encode(query)
        self.room = request.context_tokens - len(self.prefix) - len(self.query) - request.new_tokens

    def require(self, tokens: int) -> None:
        """Raises ConfigError where the context has less room than `tokens`."""
        if self.room < tokens:
            least = self.request.context_tokens - self.room + tokens
            raise ConfigError(
                f"context_tokens: at least {least} for task {self.request.name}, "
                f"got {self.request.context_tokens}; make it longer"
            )

    def fitting(self, items: Iterator[list[int]], reserved: int = 0) -> list[list[int]]:
        """The first items that fit together, `reserved` tokens left over; the one after them is drawn too."""
        room, chosen = self.room - reserved, []
        for item in items:
            room -= len(item)
            if room < 0:
                break
            chosen.append(item)
        return chosen

    def fitting_size(self, make: Callable[[int], str], least: int) -> int:
        """The size whose text fills the context as far as whole sizes can.

        Args:
            make: size → text, longer for larger sizes.
            least: the smallest size, ≥ 1.

        Raises:
            ConfigError: the text of `least` does not fit.
        """

        def tokens(size: int) -> int:
            return len(self.request.tokenizer.encode(make(size)))

        self.require(tokens(least))
        bound = 2 * least
        while tokens(bound) <= self.room:
            bound *= 2
        return bisect_right(range(bound), self.room, lo=least, key=tokens) - 1

    def example(
        self, context: Sequence[int], answers: Sequence[str], key_span: tuple[int, int] | None = None
    ) -> Example:
        """The prompt; newlines behind the context bring it to the exact length.

        Args:
            context: at most `room` ids.
            answers: see `Example`.
            key_span: see `Example`.

        Raises:
            ConfigError: the context is longer than `room`.
        """
        self.require(len(context))
        newline = self.request.tokenizer.encode("\n")[-1]
        whole = (*context, *[newline] * (self.room - len(context)))
        return Example(
            id=self.request.id,
            task=self.request.name,
            prefix=tuple(self.prefix),
            context=whole,
            query=tuple(self.query),
            answers=tuple(answers),
            key_span=key_span,
            new_tokens=self.request.new_tokens,
            prompts=f"pcbench/{self.request.task.version}",
            start_tokens=len(self.request.tokenizer.start_ids),
            context_characters=_characters(self.request.tokenizer, whole),
            seed=self.request.seed,
        )


def _characters(tokenizer: Tokenizer, context: tuple[int, ...]) -> tuple[int, ...] | None:
    """Where each id's text begins, if the text of all is that of each put together; else None."""
    lengths = {i: len(tokenizer.decode([i])) for i in set(context)}
    *starts, end = accumulate((lengths[i] for i in context), initial=0)
    return tuple(starts) if end == len(tokenizer.decode(context)) else None
