"""Keys that kv-heads share: which of a layer are stored, and where they lie in an arena of their own."""

import torch
from torch import Tensor

__all__ = ["SharedKeys", "divided"]


class SharedKeys:
    """Key segments of one layer, each beside the values of its kv-head and as long as they are.

    Args:
        heads: [B, Hkv] int64, the kv-head whose keys each kv-head reads; one that is read reads its own.
        count: C, how many are read in each batch row.
    """

    def __init__(self, heads: Tensor, count: int) -> None:
        own = torch.arange(heads.shape[1], device=heads.device)
        self.heads = heads
        # [B, C] int64, kv-heads whose keys are stored, ascending
        self.stored = (heads != own).int().argsort(dim=1, stable=True)[:, :count].contiguous()
        # [B, Hkv] int64, the segment that each kv-head reads
        self.segments = torch.searchsorted(self.stored, heads)
        # first rows of the segments, [B, C], and of what each kv-head reads, [B, Hkv], int32
        self.starts = torch.zeros_like(self.stored, dtype=torch.int32)
        self.read = torch.zeros_like(heads, dtype=torch.int32)

    def divide(self, sizes: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """Gives each segment the size of its kv-head in `sizes` [B, Hkv]; of every row its segment and place there."""
        self.starts, segment, offset = divided(self.of_stored(sizes), rows)
        self.read = self.starts.gather(1, self.segments)
        return segment, offset

    def of_stored(self, x: Tensor) -> Tensor:
        """[B, Hkv, …] → [B, C, …]: of the kv-heads whose keys are stored."""
        return x[torch.arange(len(x), device=x.device)[:, None], self.stored]


def divided(sizes: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Divides `rows` rows of an arena.

    Args:
        sizes: [B, X], rows of each segment, whose sum is `rows`.
        rows: known without asking the device.

    Returns:
        starts [B, X] int32, a segment's first row; of every row its segment, 0…B·X−1, and its place there, int64.
    """
    size = sizes.flatten().long()
    starts = size.cumsum(0) - size
    segment = torch.arange(len(size), device=size.device).repeat_interleave(size, output_size=rows)
    return starts.int().view(sizes.shape), segment, torch.arange(rows, device=size.device) - starts[segment]
