"""Cases of dual_chunk_attention."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pcbench.measure.kernels.attention_cases import cached
from pcbench.measure.kernels.draws import Draws

__all__ = ["DUAL_CHUNK", "dual_chunk"]

Make = Callable[[Draws], dict[str, Any]]


def dual_chunk(
    draw: Draws,
    *,
    heads: int = 2,
    rows: int,
    lengths: list[list[int]],
    period: int = 20,
    clip: int | None = None,
    dim: int = 64,
    channels: int | None = None,
    interleaved: bool = False,
    query_lengths: list[int] | None = None,
    gains: bool = False,
    listed: int | None = None,
    tile_rows: int = 0,
    sliced: bool = False,
    sharp: float = 1.0,
) -> dict[str, Any]:
    """New rows over shuffled segments; `listed` random chunks for each tile, some of them unused places."""
    inputs = cached(
        draw, heads=heads, rows=rows, lengths=lengths, slots=[[]] * len(lengths), dim=dim, sliced=sliced
    )  # fmt: skip
    del inputs["slots"], inputs["causal_last"]
    inputs["q"] = inputs["q"] * sharp if sharp != 1 else inputs["q"]
    turns = _turns(period + period // 5 if clip is None else clip, dim if channels is None else channels)
    inputs |= {"turns": turns.to(draw.device), "period": period, "interleaved": interleaved}
    if query_lengths is not None:
        inputs["query_lengths"] = draw.ints(query_lengths)
    if gains:
        inputs["gains"] = 1 + draw.uniform(len(lengths), rows)
    if listed is not None:
        count = max(map(max, lengths)) // period + 1
        shape = len(lengths), len(lengths[0]), -(-rows // tile_rows)
        ids = draw.uniform(*shape, max(count, listed)).argsort(-1)[..., :listed].int()
        unused = draw.uniform(*shape, listed) < 0.2
        inputs |= {"chunks": ids.masked_fill(unused, -1), "tile_rows": tile_rows}
    return inputs


def _turns(clip: int, channels: int) -> Tensor:
    """[clip + 1, channels]: cosines and sines of the angles of a rotary embedding with base 10000."""
    frequency = 10000.0 ** -(torch.arange(0, channels, 2, dtype=torch.float64) / max(1, channels))
    angle = torch.arange(clip + 1, dtype=torch.float64)[:, None] * frequency
    return torch.cat((angle.cos(), angle.sin()), -1).float()


_SEVERAL = [[67, 20], [3, 41], [100, 0]]

DUAL_CHUNK: dict[str, Make] = {
    **{f"{n} keys": partial(dual_chunk, rows=n, lengths=[[n]]) for n in (0, 1, 19, 20, 21, 39, 40, 41, 67)},
    **{f"clip {clip}": partial(dual_chunk, rows=67, lengths=[[67]], clip=clip) for clip in (20, 39, 50)},
    **{
        f"D {dim}, G {group}": partial(dual_chunk, heads=2 * group, rows=45, lengths=[[70, 70]], dim=dim)
        for dim, group in ((64, 8), (96, 3), (128, 1), (128, 4))
    },
    "a period of whole panels": partial(dual_chunk, rows=110, lengths=[[110]], period=32),
    "a period of one": partial(dual_chunk, rows=9, lengths=[[9]], period=1, clip=3),
    "appended in the middle of a chunk": partial(dual_chunk, rows=33, lengths=[[88]]),
    "unequal lengths": partial(
        dual_chunk, rows=41, lengths=_SEVERAL, heads=4, query_lengths=[41, 3, 17], gains=True, interleaved=True
    ),
    "decode": partial(dual_chunk, rows=1, lengths=_SEVERAL, heads=6, gains=True),
    "decode, D 96": partial(dual_chunk, rows=1, lengths=_SEVERAL, dim=96, interleaved=True),
    "decode, a chunk begins": partial(dual_chunk, rows=1, lengths=[[21], [41], [81]], heads=3, dim=128),
    "decode, many splits": partial(dual_chunk, rows=1, lengths=[[2500], [1300], [7]], period=400, heads=3, dim=96),
    "some channels turn": partial(dual_chunk, rows=67, lengths=[[67]], channels=24),
    "some channels turn, interleaved": partial(dual_chunk, rows=67, lengths=[[67]], channels=38, interleaved=True),
    "no channel turns": partial(dual_chunk, rows=67, lengths=[[67]], channels=0),
    "listed chunks": partial(
        dual_chunk, rows=100, lengths=[[110, 100]], heads=4, period=16, listed=3, tile_rows=16, gains=True
    ),
    "listed chunks, tiles across chunks": partial(
        dual_chunk, rows=60, lengths=[[110], [61]], period=16, listed=4, tile_rows=25, query_lengths=[60, 33]
    ),
    "listed chunks, decode": partial(dual_chunk, rows=1, lengths=_SEVERAL, period=8, listed=2, tile_rows=1),
    "more places than chunks": partial(dual_chunk, rows=67, lengths=[[67]], listed=9, tile_rows=67),
    "no place for chunks": partial(dual_chunk, rows=67, lengths=[[67]], listed=0, tile_rows=8),
    "sliced": partial(dual_chunk, rows=41, lengths=_SEVERAL, heads=4, query_lengths=[41, 3, 17], sliced=True),
    "large scores": partial(dual_chunk, rows=67, lengths=[[67]], sharp=8.0),
    "very large scores": partial(dual_chunk, rows=67, lengths=[[67]], sharp=32.0),
    "a long prompt": partial(
        dual_chunk, rows=290, lengths=[[310, 290], [300, 97]], heads=8, period=75, dim=96, query_lengths=[290, 90]
    ),
    "a long prompt of whole panels": partial(
        dual_chunk, rows=290, lengths=[[310, 290]], heads=8, period=64, interleaved=True, gains=True
    ),
    "a long prompt with listed chunks": partial(
        dual_chunk, rows=290, lengths=[[310, 290]], heads=8, period=64, listed=2, tile_rows=32
    ),
}
