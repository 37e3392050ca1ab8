"""The cache of a request that keeps every token: beams can be reordered and tokens taken back."""

from typing import Any

from torch import Tensor

from pcbench.methods.dual_chunk import StoredPlan
from pcbench.models.attach.cache import RequestCache

__all__ = ["KeptCache"]


class KeptCache(RequestCache):
    """A request's cache in which nothing is evicted."""

    plan: StoredPlan

    @property
    def is_croppable(self) -> bool:
        return self.plan.choice is None

    def crop(self, tokens_to_remove: int, *_: Any) -> None:
        """Forgets the last tokens of every row: −`tokens_to_remove`, or all but so many.

        Raises:
            ConfigError: chunks are chosen by what their keys were like, or a row has no more tokens.
        """
        count = -tokens_to_remove if tokens_to_remove <= 0 else max(0, self.tokens - tokens_to_remove)
        if not count:
            return
        if not self.is_croppable:
            self._refuse("all chunks read", "leave keep_chunks out, or generate without an assistant")
        if count >= int(self.seen.min()):
            self._refuse("a token that stays in every row", "start without a cache")
        self.lengths = [x - count for x in self.lengths]
        self.free = [[rows + count for rows in free] for free in self.free]
        self.seen = self.seen - count
        self.tokens -= count
        self.read -= count

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row i goes on from what row beam_idx[i] was; both are of one prompt, so that they hold as many tokens."""
        for layer in range(len(self.k)):
            self.reorder(layer, beam_idx.to(self.seen.device))
        self.seen = self.seen[beam_idx.to(self.seen.device)]
        if self.plan.choice is not None:
            self.plan.choice.reorder(beam_idx)
