"""What methods know of a press of another library."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Pressed", "PressedModel"]


class Pressed(Protocol):
    """What a press left of one text, and of what was read after it; a deep copy goes on by itself."""

    warnings: list[str]  # what its library said of it

    @property
    def is_masked(self) -> bool:
        """Whether keys are stored that attention no longer sees."""
        ...

    def kept(self) -> Callable[[], float]:
        """Keys that attention sees now, mean over layers and kv-heads; asking may wait for the device."""
        ...

    def stored_bytes(self) -> int:
        """Of the memory that keys and values lie in, shared memory once."""
        ...

    def shaped_bytes(self) -> int:
        """Of the keys and values themselves."""
        ...


class PressedModel(Protocol):
    """A model whose stock forwards a press compresses."""

    def compress(self, ids: "Tensor") -> "tuple[Tensor, Pressed]":
        """Ids [1, T] of a new text → last hidden rows [1, T, E], and what the press left."""
        ...

    def go_on(self, ids: "Tensor", held: Pressed) -> "Tensor":
        """Ids [1, T] that follow → last hidden rows [1, T, E]; `held` has them from then on."""
        ...

    def step(self, token: "Tensor", held: Pressed) -> "Tensor":
        """The same for one token [1, 1] of an answer, with room for those that follow it."""
        ...
