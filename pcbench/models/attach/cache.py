"""The cache of one request to an attached model: what stayed of the prompt, and the method's state beside it."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, Self

import torch
from torch import Tensor

from pcbench.errors import ConfigError
from pcbench.models.stores.ragged import RaggedStore
from pcbench.types import AttentionPlan, Segments

if TYPE_CHECKING:
    from pcbench.models.attach.handle import Attached

__all__ = ["RequestCache"]


class RequestCache(RaggedStore):
    """What a forward of an attached model returns as its cache, and takes back.

    Only forwards of that model, while the method is attached, can read it. `copy.deepcopy` and `copy` give a request
    that goes on by itself, so that several questions can be asked about one context.

    Args:
        owner: who made it.
        plan: attention of tokens after the prompt.
        segments: of each layer.
        padded: rows of the prompt have padding.
    """

    def __init__(self, owner: "Attached", plan: AttentionPlan, segments: Sequence[Segments], *, padded: bool) -> None:
        runner = owner.runner
        super().__init__(runner.spec, segments, dtype=runner.dtype, device=runner.device)
        self.owner, self.plan, self.padded, self.is_read = owner, plan, padded, False
        # of what did not run on kernels
        self.warnings: list[str] = []
        # every layer has read the same tokens
        self.is_whole = True

    @contextmanager
    def reading(self, lengths: Tensor) -> Iterator[None]:
        """A forward inside may read [B] int32 new tokens."""
        self.expect(lengths.to(self.seen.device))
        before, self.is_read, self.is_whole = self.tokens, True, False
        try:
            yield
            self.is_whole = True
        finally:
            self.is_read = False
            self.is_whole |= self.tokens == before

    def update(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """As the store.

        Raises:
            ConfigError: the forward is none of an attached model.
        """
        if not self.is_read:
            raise ConfigError(
                f"attach: a cache of {self.owner.method} read by the model that it is attached to, got another "
                "forward; start without a cache"
            )
        return super().update(*args, **kwargs)

    def copy(self) -> Self:
        """The same request once more; both go on by themselves."""
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = object.__new__(type(self))
        memo |= {id(self): twin, id(self.owner): self.owner}
        twin.__dict__ |= copy.deepcopy(self.__dict__, memo)
        return twin

    # what generate asks of a cache whose layers are no objects
    def __len__(self) -> int:
        return len(self.k)

    @property
    def is_linear(self) -> list[bool]:
        return [False for _ in self.k]

    @property
    def is_sliding(self) -> list[bool]:
        return [False for _ in self.k]

    @property
    def is_croppable(self) -> bool:
        return False

    @property
    def batch_size(self) -> int:
        return int(self.shape[0])

    def get_max_length(self, layer_idx: int | None = None) -> int:
        return -1

    def crop(self, tokens_to_remove: int, *_: Any) -> None:
        self._refuse("tokens that stay read", "generate without an assistant or prompt_lookup_num_tokens")

    def reset(self) -> NoReturn:
        self._refuse("one request", "start without a cache")

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self._refuse("greedy search or sampling", "set num_beams=1")

    def batch_repeat_interleave(self, repeats: int) -> NoReturn:
        self._refuse("the rows of the prompt", "repeat the prompt")

    def batch_select_indices(self, indices: torch.Tensor) -> NoReturn:
        self._refuse("the rows of the prompt", "read the other rows by themselves")

    def _refuse(self, expected: str, remedy: str) -> NoReturn:
        raise ConfigError(f"attach: {expected}, got a cache that is asked for more than it kept; {remedy}")
