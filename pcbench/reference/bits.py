"""Evicted keys as bits: bit `j % 32` of int32 word `j // 32` is 1 where key j is invisible to every row."""

import torch
from torch import Tensor

__all__ = ["pack_bits", "unpack_bits", "words"]


def words(keys: int) -> int:
    """int32 words that hold one bit a key."""
    return (keys + 31) // 32


def pack_bits(evicted: Tensor) -> Tensor:
    """[..., S] bool → [..., ⌈S/32⌉] int32."""
    keys = evicted.shape[-1]
    padded = torch.nn.functional.pad(evicted, (0, words(keys) * 32 - keys))
    shifts = torch.arange(32, device=evicted.device)
    values = (padded.unflatten(-1, (-1, 32)).long() << shifts).sum(-1)
    # bit 31 is the sign of an int32
    return torch.where(values >= 2**31, values - 2**32, values).int()


def unpack_bits(evicted: Tensor, keys: int) -> Tensor:
    """[..., W] int32 → [..., keys] bool; keys beyond the words are not evicted."""
    shifts = torch.arange(32, device=evicted.device, dtype=torch.int32)
    bits = ((evicted.unsqueeze(-1) >> shifts) & 1).flatten(-2).bool()
    return torch.nn.functional.pad(bits, (0, max(0, keys - bits.shape[-1])))[..., :keys]
