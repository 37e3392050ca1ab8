"""Compiled chunk scoring and selection; the documentation is in `pcbench.reference`."""

from collections.abc import Callable

import torch
from torch import Tensor

from pcbench.ops.backends import launch, require
from pcbench.ops.isa import multiplies_bfloat16
from pcbench.reference.chunks import (
    check_chunk_select,
    check_chunk_topk,
    check_query_nll_update,
    mean_nll,
    tile_columns,
)

__all__ = ["chunk_select", "chunk_topk", "query_nll_update"]

# torch.mm documents its out_dtype for CUDA alone: float32 from 16-bit inputs
MIXED_MATMUL = torch.version.hip is None


def query_nll_update(
    logits: Tensor,
    targets: Tensor,
    first_column: int,
    row_max: Tensor,
    row_sum: Tensor,
    row_target: Tensor,
) -> None:
    """Compiled `pcbench.reference.query_nll_update`."""
    launch(
        "query_nll_update",
        lambda: check_query_nll_update(logits, targets, first_column, row_max, row_sum, row_target),
        (logits, row_max, row_sum, row_target),
        logits,
        targets,
        first_column,
        row_max,
        row_sum,
        row_target,
    )


def chunk_topk(
    scores: Tensor,
    chunk_ids: Tensor,
    slots: Tensor,
    best_scores: Tensor,
    best_ids: Tensor,
    best_slots: Tensor,
) -> Tensor:
    """Compiled `pcbench.reference.chunk_topk`."""
    freed: Tensor = launch(
        "chunk_topk",
        lambda: check_chunk_topk(scores, chunk_ids, slots, best_scores, best_ids, best_slots),
        (scores, best_scores),
        scores,
        chunk_ids,
        slots,
        best_scores,
        best_ids,
        best_slots,
    )
    return freed


def chunk_select(
    hidden: Tensor,
    lm_head: Tensor,
    targets: Tensor,
    segments: Tensor,
    chunk_ids: Tensor,
    slots: Tensor,
    best_scores: Tensor,
    best_ids: Tensor,
    best_slots: Tensor,
) -> tuple[Tensor, Tensor]:
    """Compiled `pcbench.reference.chunk_select`: torch's matmul, a vocabulary tile at a time, over the two ops."""
    check_chunk_select(hidden, lm_head, targets, segments, chunk_ids, slots, best_scores, best_ids, best_slots)
    require("chunk_select", hidden, lm_head, best_scores)
    vocab = lm_head.shape[0]
    columns = max(1, min(vocab, tile_columns(vocab, lm_head.device)))
    multiply = _multiply(hidden, columns)
    row_max = torch.full_like(hidden[:, 0], -torch.inf, dtype=torch.float32)
    row_sum = torch.zeros_like(row_max)
    row_target = torch.full_like(row_max, -torch.inf)
    space = row_max.new_empty(hidden.shape[0] * columns)
    for first in range(0, vocab, columns):
        width = min(columns, vocab - first)
        tile = space[: hidden.shape[0] * width].view(-1, width)
        multiply(lm_head[first : first + width], tile)
        query_nll_update(tile, targets, first, row_max, row_sum, row_target)
    scores = mean_nll(row_max, row_sum, row_target, segments, chunk_ids.shape[0])
    return scores, chunk_topk(scores, chunk_ids, slots, best_scores, best_ids, best_slots)


def _multiply(hidden: Tensor, columns: int) -> Callable[[Tensor, Tensor], object]:
    """(weights, tile): float32 logits of all rows by at most `columns` rows of weights, into the tile."""
    if hidden.device.type == "cpu":
        if hidden.dtype == torch.bfloat16 and hidden.shape[1] % 2 == 0 and multiplies_bfloat16():
            return lambda weights, tile: torch.ops.pcbench._logits(hidden, weights, tile)
    elif MIXED_MATMUL and hidden.dtype in (torch.bfloat16, torch.float16):
        return lambda weights, tile: torch.mm(hidden, weights.T, out_dtype=torch.float32, out=tile)
    if hidden.dtype == torch.float32:
        return lambda weights, tile: torch.mm(hidden, weights.T, out=tile)
    # a 16-bit matmul may be a hundred times slower than this one on a CPU
    rows, widened = hidden.float(), hidden.new_empty((columns, hidden.shape[1]), dtype=torch.float32)
    return lambda weights, tile: torch.mm(rows, widened[: len(weights)].copy_(weights).T, out=tile)
