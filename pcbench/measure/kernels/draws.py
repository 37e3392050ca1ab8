"""Seeded inputs in odd layouts."""

import torch
from torch import Tensor

from pcbench.reference.bits import pack_bits

__all__ = ["Draws"]


class Draws:
    """A stream of random tensors that is the same on every device.

    Args:
        seed: of the stream.
        device: where the tensors go.
        dtype: of the model's tensors; states and masses are float32.
        made_there: whether the device draws them itself: quicker where they are large, another stream on each device.
    """

    def __init__(self, seed: int, device: torch.device, dtype: torch.dtype, *, made_there: bool = False) -> None:
        self.device, self.dtype = device, dtype
        self.generator = torch.Generator(device if made_there else "cpu").manual_seed(seed)

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Standard normal numbers, in the model's dtype unless told."""
        return torch.randn(shape, generator=self.generator, device=self.generator.device).to(
            self.device, dtype or self.dtype
        )

    def heads(self, *shape: int, sliced: bool = False) -> Tensor:
        """[B, H, T, D]; `sliced` is a view between other rows, as a projection's transpose is."""
        if not sliced:
            return self.normal(*shape)
        batch, heads, rows, dim = shape
        return self.normal(batch, rows + 3, heads + 1, dim)[:, 2 : 2 + rows, 1:].transpose(1, 2)

    def uniform(self, *shape: int) -> Tensor:
        """float32 in [0, 1)."""
        return torch.rand(shape, generator=self.generator, device=self.generator.device).to(self.device)

    def integers(self, high: int, *shape: int) -> Tensor:
        """int32 in [0, high)."""
        drawn = torch.randint(high, shape, generator=self.generator, dtype=torch.int32, device=self.generator.device)
        return drawn.to(self.device)

    def ints(self, values: object) -> Tensor:
        """These numbers as int32."""
        return torch.tensor(values, dtype=torch.int32, device=self.device)

    def bits(self, *shape: int, share: float) -> Tensor:
        """[..., S] → packed words in which a share of the keys is evicted."""
        return pack_bits(self.uniform(*shape) < share)
