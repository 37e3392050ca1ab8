"""Prompts of which later layers read fewer tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pcbench.errors import ConfigError

__all__ = ["Pruning"]


@dataclass
class Pruning:
    """Each layer goes on with the tokens that the last queries of the layer before attend to, over all its heads.

    Layer 0 reads all, and no layer more than the one before. The first and the last tokens stay, the last one of which
    says what comes next; of equals the earlier token stays. One request's, one row a batch.

    Args:
        targets: tokens of a prompt → tokens that each layer should read.
        window: last tokens that stay; the attention of as many queries counts as `Scores.rows` says.
        sink: first tokens that stay.
        mass: [B, S'] float32, what the tokens of the layer that ran last received.
        positions: [B, S'] int64, which tokens of the prompt those are; None while nothing was left out.
    """

    targets: Callable[[int], Sequence[int]]
    window: int
    sink: int
    mass: Tensor | None = field(default=None, init=False)
    positions: Tensor | None = field(default=None, init=False)
    lengths: list[int] = field(default_factory=list, init=False)

    def plan(self, length: int) -> list[int]:
        """Tokens that each layer of a prompt of `length` reads, which `__call__` then holds to."""
        self.lengths = []
        for target in self.targets(length):
            before = self.lengths[-1] if self.lengths else length
            self.lengths.append(min(before, max(target, self.window + self.sink)) if self.lengths else length)
        return self.lengths

    def saw(self, layer: int, mass: Tensor) -> None:
        """[B, H, S'] float32: what each token of a layer received.

        Raises:
            ConfigError: the layer read other tokens than `plan` said, as where nobody asks between layers.
        """
        if self.lengths[layer : layer + 1] != [mass.shape[2]]:
            raise ConfigError(
                f"layer stages: a forward that asks which tokens go on, got {mass.shape[2]} tokens in layer {layer}; "
                "take the method without stages where a model runs by itself"
            )
        self.mass = mass.sum(1)

    def __call__(self, layer: int) -> tuple[Tensor | None, Tensor] | None:
        """What layer `layer` reads, as `pcbench.types.Rows` has it."""
        mass, count = self.mass, self.lengths[layer]
        if layer == 0 or mass is None or count == mass.shape[1]:
            return None if self.positions is None else (None, self.positions)
        mass[:, : self.sink] = torch.inf
        mass[:, mass.shape[1] - self.window :] = torch.inf
        kept = mass.argsort(dim=1, descending=True, stable=True)[:, :count].sort(dim=1).values
        self.positions = kept if self.positions is None else self.positions.gather(1, kept)
        return kept, self.positions
