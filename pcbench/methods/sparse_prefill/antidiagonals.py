"""Which blocks of keys each block of queries reads: those with the largest sums over antidiagonals."""

import math

import torch
from torch import Tensor

__all__ = ["block_sums", "chosen_blocks"]

# scores of a step, float32
STEP_BYTES = 256 << 20


def block_sums(q: Tensor, k: Tensor, *, stride: int, block: int, scale: float) -> Tensor:
    """How much attention the antidiagonals of each block of scores stand for.

    Rows and keys are grouped by `stride`; a group of rows and one of keys have the mean score of the pairs on the
    antidiagonal of their square. A softmax over the groups that are no later, and its sum over each block.

    Args:
        q: [H, T, D].
        k: [Hkv, T, D].
        stride: divides `block`.
        block: rows, and keys, of a block.
        scale: of the scores.

    Returns:
        [H, N, N] float32 for N = ⌈T / block⌉ blocks; 0 for blocks of later keys, and NaN in a row of blocks that holds
        a score that is infinite.

    Cost: T²·H·D / stride operations.
    Source: XAttention, arXiv:2503.16428.
    """
    (heads, tokens, _), kv_heads = q.shape, k.shape[0]
    blocks, per_block = -(-tokens // block), block // stride
    q, k = (torch.nn.functional.pad(x, (0, 0, 0, blocks * block - tokens)) for x in (q, k))
    # by a power of two before the product, which is exact, so that sums of float16 stay in its range
    rest, power = math.frexp(scale / stride)
    # the last row of a group meets its first key
    rows = (q * 2.0**power).unflatten(1, (-1, stride)).flip(2).flatten(2).unflatten(0, (kv_heads, -1))
    keys = k.unflatten(1, (-1, stride)).flatten(2)[:, None]
    groups = blocks * per_block
    place = torch.arange(groups, device=q.device)
    step = max(1, STEP_BYTES // (4 * heads * groups * per_block))
    sums = torch.zeros(heads, blocks, blocks, dtype=torch.float32, device=q.device)
    for first in range(0, blocks, step):
        end = min(first + step, blocks)
        here, seen = slice(first * per_block, end * per_block), slice(end * per_block)
        scores = (rows[:, :, here] @ keys[:, :, seen].mT).flatten(0, 1).float() * rest
        later = place[seen] > place[here, None]
        p = scores.masked_fill_(later, -torch.inf).softmax(-1)
        # groups of padding count for nothing
        p.masked_fill_((place[here] * stride >= tokens)[:, None], 0.0)
        p = p.unflatten(1, (-1, per_block)).sum(2)
        sums[:, first:end, :end] = p.unflatten(2, (-1, per_block)).sum(3)
    return sums


def chosen_blocks(sums: Tensor, threshold: float) -> Tensor:
    """The first block, a row's own, and of the others the largest until `threshold` of the row's sum is reached.

    All that are no later where the row's sum is not finite.

    Args:
        sums: [H, N, N], of blocks that are no later.
        threshold: 0..1; 1 takes every block that is no later.

    Returns:
        [H, N, N] bool.
    """
    number = torch.arange(sums.shape[2], device=sums.device)
    past = (number <= number[:, None]).expand_as(sums)
    if threshold >= 1:
        return past
    always = past & ((number == 0) | (number == number[:, None]))
    sums = sums.double()
    others, order = sums.masked_fill(always | ~past, -1.0).sort(dim=-1, descending=True, stable=True)
    before = others.clamp_min(0.0).cumsum(-1) - others.clamp_min(0.0) + (sums * always).sum(-1, keepdim=True)
    taken = (before < threshold * sums.sum(-1, keepdim=True)) & (others >= 0)
    unknown = past & ~sums.sum(-1, keepdim=True).isfinite()
    return always | unknown | torch.zeros_like(taken).scatter(2, order, taken)
