"""Chunks: how a context is cut, how a chunk is scored by the query's loss, and which chunks are kept."""

from itertools import pairwise

import torch
from torch import Tensor

from pcbench.reference.checks import Arguments
from pcbench.reference.settle import settle

__all__ = ["chunk_select", "chunk_topk", "query_nll_update", "split_chunks"]

# vocabulary columns whose logits exist at a time, at most
TILE_COLUMNS = 8192
# on a GPU: a multiple of these
COLUMNS_STEP = 256
# on a CPU: weights and logits of a tile stay in its caches
CPU_COLUMNS = 1024


def split_chunks(tokens: int, chunk_tokens: int) -> list[tuple[int, int]]:
    """Cuts `tokens` into the fewest spans of at most `chunk_tokens`, in order; lengths differ by at most 1.

    Args:
        tokens: ≥ 0; 0 gives one empty span.
        chunk_tokens: ≥ 1.

    Returns:
        (start, end) of each span.

    Source: ParallelComp, arXiv:2502.14317v2, splits by tokens; the released code splits by characters.
    """
    chunks = max(1, -(-tokens // chunk_tokens))
    bounds = [tokens * i // chunks for i in range(chunks + 1)]
    return list(pairwise(bounds))


def query_nll_update(
    logits: Tensor,
    targets: Tensor,
    first_column: int,
    row_max: Tensor,
    row_sum: Tensor,
    row_target: Tensor,
) -> None:
    """Takes one vocabulary tile into an online log-sum-exp; the three row tensors are updated in place.

    Start with row_max −inf, row_sum 0, row_target −inf. After all tiles a row's negative log-likelihood
    is row_max + log(row_sum) − row_target: +inf for a target in no tile. Tiles may come in any order;
    a column of −inf adds nothing.

    Args:
        logits: [X, Vt] float, columns first_column … first_column + Vt − 1 of the logits.
        targets: [X] int32, vocabulary ids; an id outside the tile leaves row_target alone.
        first_column: vocabulary id of the first column, ≥ 0.
        row_max: [X] float32, changed.
        row_sum: [X] float32, changed; relative to row_max.
        row_target: [X] float32, changed; the target's logit.

    Returns:
        Nothing.

    Raises:
        ShapeError: a shape or dtype differs from the above, or first_column is negative.

    Cost: reads X·Vt logits once.
    Source: online softmax, Milakov and Gimelshein, arXiv:1805.02867.
    """
    check_query_nll_update(logits, targets, first_column, row_max, row_sum, row_target)
    if not logits.shape[1]:
        return
    settle()
    tile = logits.to(row_max.dtype)
    largest = torch.maximum(row_max, tile.amax(1))
    shift = torch.where(largest == -torch.inf, 0.0, largest)
    row_sum.mul_((row_max - shift).exp()).add_((tile - shift[:, None]).exp().sum(1))
    row_max.copy_(largest)
    column = (targets - first_column).long()
    inside = (column >= 0) & (column < tile.shape[1])
    found = tile.gather(1, column.clamp(0, tile.shape[1] - 1)[:, None])[:, 0]
    row_target.copy_(torch.where(inside, found, row_target))


def chunk_topk(
    scores: Tensor,
    chunk_ids: Tensor,
    slots: Tensor,
    best_scores: Tensor,
    best_ids: Tensor,
    best_slots: Tensor,
) -> Tensor:
    """Merges M scored chunks into the K kept ones and returns the M slots that are free again.

    A lower score keeps: it is the mean loss of the query given the chunk. Equal scores keep the earlier
    chunk (the lower id); NaN counts as +inf; id −1 is no chunk and loses to every chunk, also to one
    with score +inf. The kept entries are in ascending order of id with the empty ones (+inf, −1) last, so
    any split of the chunks into calls ends in the same state. Start with best_scores +inf, best_ids −1
    and best_slots 0…K−1: empty entries own a slot too, so a store of K + M slots never grows.

    Args:
        scores: [M] float32, nats per query token.
        chunk_ids: [M] int32, position of each chunk in the document; −1 pads a partial micro-batch.
        slots: [M] int32, where each chunk lies in the store.
        best_scores: [K] float32, changed.
        best_ids: [K] int32, changed.
        best_slots: [K] int32, changed.

    Returns:
        [M] int32: the slots of the entries that were not kept, ascending by id, empty ones last.

    Raises:
        ShapeError: a shape or dtype differs from the above.

    Cost: K + M entries; never waits for the device.
    Source: chunk eviction of ParallelComp, arXiv:2502.14317v2. Ties, NaN and padding are ours; the
        released code keeps the later of two equal chunks and encodes the direction in the sign.
    """
    check_chunk_topk(scores, chunk_ids, slots, best_scores, best_ids, best_slots)
    keep = best_scores.shape[0]
    score = torch.cat([best_scores, scores.to(best_scores.dtype)])
    ids = torch.cat([best_ids, chunk_ids])
    slot = torch.cat([best_slots, slots])
    score = torch.where(score.isnan() | (ids < 0), torch.inf, score)
    reading = torch.where(ids < 0, torch.iinfo(torch.int32).max, ids).argsort(stable=True)
    ranked = reading[score[reading].argsort(stable=True)]
    lost = torch.ones_like(ids).index_fill_(0, ranked[:keep], 0)
    order = reading[lost[reading].argsort(stable=True)]
    best, freed = order[:keep], order[keep:]
    best_scores.copy_(score[best])
    best_ids.copy_(ids[best].clamp_min(-1))  # any negative id is no chunk
    best_slots.copy_(slot[best])
    return slot[freed]


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
    """Scores M chunks by the query's loss and merges them into the kept ones; [X, V] logits never exist.

    A row's loss is −log softmax(hidden · lm_headᵀ)[target]; a chunk's score is the mean over its rows.
    A chunk without rows scores +inf.

    Args:
        hidden: [X, E] float; the rows that predict the query's tokens, all chunks one after another.
        lm_head: [V, E], dtype of hidden.
        targets: [X] int32, the query's token ids.
        segments: [X] int32, 0…M−1: which of the call's chunks a row belongs to; −1 ignores the row.
        chunk_ids, slots, best_scores, best_ids, best_slots: as in `chunk_topk`; the last three change.

    Returns:
        scores [M] float32 in nats per query token, freed [M] int32 as `chunk_topk` returns it.

    Raises:
        ShapeError: a shape or dtype differs from the above.

    Cost: 2·X·V·E operations; reads lm_head once.
    Source: query loss as chunk score, ParallelComp, arXiv:2502.14317v2, equation 3. The float32 mean is ours:
        the released code sums in float16 and divides by one less than the count.
    """
    check_chunk_select(hidden, lm_head, targets, segments, chunk_ids, slots, best_scores, best_ids, best_slots)
    wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    rows = hidden.shape[0]
    row_max = torch.full((rows,), -torch.inf, dtype=wide, device=hidden.device)
    row_sum = torch.zeros_like(row_max)
    row_target = torch.full_like(row_max, -torch.inf)
    columns = tile_columns(lm_head.shape[0], lm_head.device)
    for first in range(0, lm_head.shape[0], columns):
        tile = hidden.to(wide) @ lm_head[first : first + columns].to(wide).T
        query_nll_update(tile, targets, first, row_max, row_sum, row_target)
    scores = mean_nll(row_max, row_sum, row_target, segments, chunk_ids.shape[0])
    return scores, chunk_topk(scores, chunk_ids, slots, best_scores, best_ids, best_slots)


def tile_columns(vocab: int, device: torch.device) -> int:
    """Vocabulary columns whose logits exist at a time; on a GPU, in float32, a twentieth of all logits in 16 bits."""
    if device.type == "cpu":
        return min(TILE_COLUMNS, CPU_COLUMNS)
    return min(TILE_COLUMNS, max(COLUMNS_STEP, vocab // 40 // COLUMNS_STEP * COLUMNS_STEP))


def mean_nll(row_max: Tensor, row_sum: Tensor, row_target: Tensor, segments: Tensor, chunks: int) -> Tensor:
    """[X] online log-sum-exp → [M] mean loss of the rows of each segment; +inf for a segment without rows."""
    nll = row_max + row_sum.log() - row_target
    member = segments == torch.arange(chunks, device=segments.device)[:, None]  # [M, X]
    # a fixed order of additions; a matmul with 0/1 would turn an ignored row's inf into NaN
    totals = torch.where(member, nll, 0.0).sum(1)
    counts = member.sum(1)
    return torch.where(counts > 0, totals / counts, torch.inf)


def check_query_nll_update(
    logits: Tensor, targets: Tensor, first_column: int, row_max: Tensor, row_sum: Tensor, row_target: Tensor
) -> None:
    a = Arguments("query_nll_update")
    a.floats("logits", logits, "X Vt")
    a.ints("targets", targets, "X")
    a.number("first_column", first_column, lambda n: n >= 0, "≥ 0")
    a.state("row_max", row_max, "X")
    a.floats("row_sum", row_sum, "X", like=row_max)
    a.floats("row_target", row_target, "X", like=row_max)


def check_chunk_topk(
    scores: Tensor, chunk_ids: Tensor, slots: Tensor, best_scores: Tensor, best_ids: Tensor, best_slots: Tensor
) -> None:
    a = Arguments("chunk_topk")
    a.state("scores", scores, "M")
    _check_selection(a, chunk_ids, slots, best_scores, best_ids, best_slots)


def check_chunk_select(
    hidden: Tensor,
    lm_head: Tensor,
    targets: Tensor,
    segments: Tensor,
    chunk_ids: Tensor,
    slots: Tensor,
    best_scores: Tensor,
    best_ids: Tensor,
    best_slots: Tensor,
) -> None:
    a = Arguments("chunk_select")
    a.floats("hidden", hidden, "X E")
    a.floats("lm_head", lm_head, "V E", like=hidden)
    a.ints("targets", targets, "X")
    a.ints("segments", segments, "X")
    _check_selection(a, chunk_ids, slots, best_scores, best_ids, best_slots)


def _check_selection(
    a: Arguments, chunk_ids: Tensor, slots: Tensor, best_scores: Tensor, best_ids: Tensor, best_slots: Tensor
) -> None:
    a.ints("chunk_ids", chunk_ids, "M")
    a.ints("slots", slots, "M")
    a.state("best_scores", best_scores, "K")
    a.ints("best_ids", best_ids, "K")
    a.ints("best_slots", best_slots, "K")
