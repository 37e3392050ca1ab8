"""Compiled attention of Dual Chunk Attention; the documentation is in `pcbench.reference`."""

from torch import Tensor

from pcbench.ops.backends import launch
from pcbench.reference.dual_chunk import check_dual_chunk_attention

__all__ = ["dual_chunk_attention"]


def dual_chunk_attention(
    q: Tensor,
    k_rows: Tensor,
    v_rows: Tensor,
    starts: Tensor,
    lengths: Tensor,
    turns: Tensor,
    *,
    scale: float,
    period: int,
    interleaved: bool = False,
    query_lengths: Tensor | None = None,
    gains: Tensor | None = None,
    chunks: Tensor | None = None,
    tile_rows: int = 0,
) -> tuple[Tensor, Tensor]:
    """Compiled `pcbench.reference.dual_chunk_attention`."""
    out, lse = launch(
        "dual_chunk_attention",
        lambda: check_dual_chunk_attention(
            q, k_rows, v_rows, starts, lengths, turns, period, query_lengths, gains, chunks, tile_rows
        ),
        (q, k_rows, v_rows, turns, gains),
        q,
        k_rows,
        v_rows,
        starts,
        lengths,
        turns,
        scale=scale,
        period=period,
        interleaved=interleaved,
        query_lengths=query_lengths,
        gains=gains,
        chunks=chunks,
        tile_rows=tile_rows,
    )
    return out, lse
