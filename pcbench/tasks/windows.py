"""Windows of a long text: the last tokens of each are scored, given all that stands before them in it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pcbench.errors import BadData, ConfigError
from pcbench.tasks.base import Example
from pcbench.tasks.texts import Ids, Text
from pcbench.types import digest

__all__ = ["Cut", "Window"]


@dataclass(frozen=True, kw_only=True)
class Window(Example):
    """A prompt whose continuation is given.

    Args:
        scored: ids of the continuation.
        whole: whether its loss is wanted at every position, too.
    """

    scored: tuple[int, ...]
    whole: bool

    @property
    def sha256(self) -> str:
        """Of all ids and how they are divided."""
        return digest([self.prefix, self.context, self.query, self.scored], length=64)


@dataclass(frozen=True)
class Cut:
    """How windows are cut out of a text.

    Args:
        text: which; task: its name with all that changes what is scored.
        tokens: of a window, with what a tokenizer puts in front of a text.
        longest: tokens of the windows whose ends all lengths share, so that their scored tokens are the same.
        scored: last tokens, whose loss is taken.
        query: tokens before them, which stand in a prompt where a question does.
        stride: one of the longest windows may begin at every so many tokens of the text.
        windows: at most.
        whole: windows whose loss is wanted at every position, at most.
        seed: of where they begin.
    """

    text: Text
    task: str
    tokens: int
    longest: int
    scored: int
    query: int
    stride: int
    windows: int
    whole: int
    seed: int

    def begins(self, held: int, start: int) -> list[int]:
        """Where windows begin: the longest as far apart as they can, the first at random; others end where these do.

        Args:
            held: tokens of the text.
            start: tokens that stand in front of each window.

        Raises:
            ConfigError: a window has no token of context.
            BadData: the text is shorter than the longest windows.
        """
        needed = self.longest - start
        if self.tokens - start <= self.query + self.scored:
            raise ConfigError(
                f"windows of more than {start + self.query + self.scored} tokens, which start ids, query and scored "
                f"tokens take, got {self.tokens}; lengthen suite.context_tokens"
            )
        if held < needed:
            raise BadData(
                f"{self.text.where}: a text of {needed:,} tokens or more, got {held:,} in {self.text.name}; name a "
                "longer one, or shorten suite.context_tokens"
            )
        places = (held - needed) // self.stride + 1
        count = min(self.windows, places)
        first = random.Random(self.seed).randrange(places // count)
        skipped = self.longest - self.tokens
        return [skipped + self.stride * (first + i * places // count) for i in range(count)]

    def window(self, ids: Ids, begins: Sequence[int], index: int, start_ids: Sequence[int]) -> Window:
        """One window.

        Args:
            ids: of the text.
            begins: of all windows; index: which.
            start_ids: what the tokenizer puts in front of a text.
        """
        first, count = begins[index], self.tokens - len(start_ids)
        taken = tuple(ids[first : first + count].tolist())
        asked, scored = count - self.query - self.scored, count - self.scored
        return Window(
            id=f"{self.task}/{self.tokens}/{first}",
            task=self.task,
            prefix=tuple(start_ids),
            context=taken[:asked],
            query=taken[asked:scored],
            scored=taken[scored:],
            whole=index in self._whole(len(begins)),
            answers=(),
            key_span=None,
            new_tokens=self.scored,
            prompts=self.task,
            start_tokens=len(start_ids),
            seed=self.seed,
            warnings=self._warnings(begins),
        )

    def _warnings(self, begins: Sequence[int]) -> tuple[str, ...]:
        found = []
        if len(begins) < self.windows:
            found.append(
                f"{len(begins)} windows, all that the text has at a stride of {self.stride}, of {self.windows}"
            )
        if any(after - before < self.scored for before, after in pairwise(begins)):
            found.append("windows score the same tokens: intervals are too narrow, fewer windows would be honest")
        return tuple(found)

    def _whole(self, windows: int) -> set[int]:
        """Spread evenly over all."""
        count = min(self.whole, windows)
        return {i * windows // count for i in range(count)}
