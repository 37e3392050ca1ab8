"""Compiled chunk scoring and selection; the documentation is in `pcbench.reference`."""

import torch
from torch import Tensor

from pcbench.ops.backends import require
from pcbench.reference.chunks import (
    TILE_COLUMNS,
    check_chunk_select,
    check_chunk_topk,
    check_query_nll_update,
    mean_nll,
)

__all__ = ["chunk_select", "chunk_topk", "query_nll_update"]


def query_nll_update(
    logits: Tensor,
    targets: Tensor,
    first_column: int,
    row_max: Tensor,
    row_sum: Tensor,
    row_target: Tensor,
) -> None:
    """Compiled `pcbench.reference.query_nll_update`."""
    check_query_nll_update(logits, targets, first_column, row_max, row_sum, row_target)
    require("query_nll_update", logits, row_max, row_sum, row_target)
    torch.ops.pcbench.query_nll_update(logits, targets, first_column, row_max, row_sum, row_target)


def chunk_topk(
    scores: Tensor,
    chunk_ids: Tensor,
    slots: Tensor,
    best_scores: Tensor,
    best_ids: Tensor,
    best_slots: Tensor,
) -> Tensor:
    """Compiled `pcbench.reference.chunk_topk`."""
    check_chunk_topk(scores, chunk_ids, slots, best_scores, best_ids, best_slots)
    require("chunk_topk", scores, best_scores)
    freed: Tensor = torch.ops.pcbench.chunk_topk(scores, chunk_ids, slots, best_scores, best_ids, best_slots)
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
    # a 16-bit matmul may be a hundred times slower than this one on a CPU
    rows = hidden.float()
    row_max = torch.full_like(rows[:, 0], -torch.inf)
    row_sum = torch.zeros_like(row_max)
    row_target = torch.full_like(row_max, -torch.inf)
    for first in range(0, lm_head.shape[0], TILE_COLUMNS):
        tile = rows @ lm_head[first : first + TILE_COLUMNS].float().T
        query_nll_update(tile, targets, first, row_max, row_sum, row_target)
    scores = mean_nll(row_max, row_sum, row_target, segments, chunk_ids.shape[0])
    return scores, chunk_topk(scores, chunk_ids, slots, best_scores, best_ids, best_slots)
