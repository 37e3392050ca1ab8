"""Cases of the ops that score chunks and select chunks and tokens."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from pcbench.measure.kernels.draws import Draws

__all__ = ["CHUNK_SELECT", "CHUNK_TOPK", "NLL", "SELECT", "chunk_select", "nll", "select", "topk_random"]

Make = Callable[[Draws], dict[str, Any]]


def nll(
    draw: Draws, *, rows: int, columns: int, first: int = 0, fresh: bool = True, special: float | None = None
) -> dict[str, Any]:
    """A vocabulary tile and the state of its rows."""
    logits = draw.normal(rows, columns) * 4
    if special is not None:
        logits[1, 2] = special
        logits[2] = -torch.inf
    state = {name: torch.full((rows,), value) for name, value in _FRESH.items()}
    if not fresh:
        state = {"row_max": draw.uniform(rows) * 9, "row_sum": draw.uniform(rows) + 1, "row_target": draw.uniform(rows)}
    state = {name: value.to(draw.device) for name, value in state.items()}
    # some targets lie before the tile and some behind it
    targets = draw.integers(columns + 2 * (first + 1), rows)
    return {"logits": logits, "targets": targets, "first_column": first} | state


_FRESH = {"row_max": -torch.inf, "row_sum": 0.0, "row_target": -torch.inf}

NLL: dict[str, Make] = {
    **{f"{n} columns": partial(nll, rows=5, columns=n) for n in (0, 1, 31, 33, 63, 65, 1000)},
    "8192 columns": partial(nll, rows=3, columns=8192, first=8192, fresh=False),
    "a later tile": partial(nll, rows=40, columns=100, first=50, fresh=False),
    "no rows": partial(nll, rows=0, columns=10),
    "a NaN": partial(nll, rows=5, columns=40, special=torch.nan),
    "a NaN, later": partial(nll, rows=5, columns=40, special=torch.nan, fresh=False),
    "an infinity": partial(nll, rows=5, columns=40, special=torch.inf),
    "minus infinity": partial(nll, rows=5, columns=40, special=-torch.inf),
}


def _topk(
    draw: Draws,
    *,
    keep: int,
    scores: list[float],
    ids: list[int] | None = None,
    best: list[tuple[float, int]] | None = None,
) -> dict[str, Any]:
    best = (best or []) + [(torch.inf, -1)] * (keep - len(best or []))
    first = 1 + max((i for _, i in best), default=-1)
    return {
        "scores": torch.tensor(scores, dtype=torch.float32, device=draw.device),
        "chunk_ids": draw.ints(ids if ids is not None else list(range(first, first + len(scores)))),
        "slots": draw.ints(list(range(keep, keep + len(scores)))),
        "best_scores": torch.tensor([s for s, _ in best], dtype=torch.float32, device=draw.device),
        "best_ids": draw.ints([i for _, i in best]),
        "best_slots": draw.ints(list(reversed(range(keep)))),
    }


def topk_random(draw: Draws, *, keep: int, count: int) -> dict[str, Any]:
    """Scores with many ties."""
    # few distinct values: many ties
    return _topk(draw, keep=keep, scores=(draw.integers(5, count) / 4).tolist())


_INF, _NAN = float("inf"), float("nan")

CHUNK_TOPK: dict[str, Make] = {
    "fewer than kept": partial(_topk, keep=4, scores=[2.0, 1.0]),
    "more than kept": partial(_topk, keep=2, scores=[2.0, 1.0, 3.0, 0.5, 0.75]),
    "ties with the kept": partial(_topk, keep=2, scores=[1.0, 1.0], best=[(1.0, 0), (1.0, 1)]),
    "ties among the new": partial(_topk, keep=1, scores=[1.0, 1.0, 1.0]),
    "ids in any order": partial(_topk, keep=2, scores=[1.0, 1.0, 1.0], ids=[7, 3, 5]),
    "NaN and infinity": partial(_topk, keep=3, scores=[_NAN, _INF, -_INF, 5.0, _NAN]),
    "zero and minus zero": partial(_topk, keep=1, scores=[0.0, -0.0]),
    "padding": partial(_topk, keep=2, scores=[_INF, 0.0, 1.0], ids=[0, -1, -1]),
    "padding of other negative numbers": partial(_topk, keep=2, scores=[0.0, 0.0], ids=[-7, -2]),
    "nothing kept": partial(_topk, keep=0, scores=[1.0, 2.0]),
    "nothing new": partial(_topk, keep=2, scores=[], best=[(1.0, 3)]),
    "many": partial(topk_random, keep=17, count=40),
}


def chunk_select(
    draw: Draws, *, rows: list[int], vocab: int = 1000, hidden: int = 48, keep: int = 2, ignored: int = 0
) -> dict[str, Any]:
    """`rows` of each chunk; `ignored` ones belong to none. Logits are of size 1, as a model's head makes them."""
    segments = [m for m, count in enumerate(rows) for _ in range(count)] + [-1] * ignored
    state = _topk(draw, keep=keep, scores=[0.0] * len(rows))
    del state["scores"]
    return state | {
        "hidden": draw.normal(len(segments), hidden),
        "lm_head": draw.normal(vocab, hidden).mul_(hidden**-0.5),
        "targets": draw.integers(vocab, len(segments)),
        "segments": draw.ints(segments),
    }


CHUNK_SELECT: dict[str, Make] = {
    "one chunk": partial(chunk_select, rows=[5]),
    "unequal rows": partial(chunk_select, rows=[3, 0, 7, 1], ignored=2),
    "several tiles": partial(chunk_select, rows=[4, 4, 4], vocab=20000),
    "no rows": partial(chunk_select, rows=[0, 0]),
}


def select(
    draw: Draws,
    *,
    batch: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    keys: int = 100,
    dim: int = 64,
    capacity: int = 20,
    levels: int | None = None,
    special: bool = False,
    budgets: list[list[int]] | None = None,
    key_lengths: list[list[int]] | None = None,
    protect: float | None = None,
    evicted: float | None = None,
    sliced: bool = False,
    **numbers: int,
) -> dict[str, Any]:
    """Masses over keys; `levels` makes ties, `special` NaN and infinities."""
    mass = draw.uniform(batch, heads, keys) * 2 - 0.5
    if levels is not None:
        mass = draw.integers(levels, batch, heads, keys).float()
    if special:
        mass[:, :, 3::17], mass[:, :, 5::23], mass[:, :, 6::29] = torch.nan, torch.inf, -torch.inf
        mass[:, :, 1::13], mass[:, :, 2::13] = -0.0, 0.0
    k, v = (draw.heads(batch, kv_heads, keys, dim, sliced=sliced) for _ in range(2))
    if sliced:
        mass = torch.cat([mass, mass], 1)[:, :heads]
    inputs: dict[str, Any] = {"mass": mass, "k": k, "v": v, "capacity": capacity} | numbers
    if budgets is not None:
        inputs["budgets"] = draw.ints(budgets)
    if key_lengths is not None:
        inputs["key_lengths"] = draw.ints(key_lengths)
    if protect is not None:
        inputs["protect"] = draw.uniform(batch, keys) < protect
    if evicted is not None:
        inputs["evicted"] = draw.bits(batch, kv_heads, keys, share=evicted)
    return inputs


SELECT: dict[str, Make] = {
    **{f"{n} keys": partial(select, keys=n) for n in (0, 1, 31, 33, 63, 65, 1000)},
    # each by a kernel of its own, and the last by two
    **{f"{n} keys": partial(select, batch=1, keys=n, dim=8, capacity=5) for n in (2000, 5000)},
    **{f"{n} keys": partial(select, batch=1, keys=n, dim=2, capacity=5) for n in (9000, 16385)},
    **{f"pool {n}": partial(select, pool=n) for n in (1, 3, 31, 251, 2**62 + 1)},
    "capacity of all keys": partial(select, capacity=100),
    "capacity 1": partial(select, capacity=1),
    "mass by kv-head": partial(select, heads=2),
    "one kv-head of many": partial(select, heads=32, kv_heads=1, dim=128),
    "ties": partial(select, levels=2, pool=1),
    "ties among many keys": partial(select, batch=1, keys=3000, dim=8, capacity=700, levels=3, pool=1, evicted=0.3),
    "ties after pooling": partial(select, levels=3, pool=5),
    "all equal": partial(select, levels=1),
    "NaN, infinities, signed zeros": partial(select, special=True, pool=1),
    "NaN and infinities, pooled": partial(select, special=True),
    "budgets": partial(select, budgets=[[0, 3], [20, 19]]),
    "unequal lengths": partial(select, key_lengths=[[100, 0], [33, 10]]),
    "sink and recent": partial(select, sink=4, recent=6, key_lengths=[[100, 7], [33, 3]]),
    "more protected than capacity": partial(select, sink=15, recent=15),
    "protected": partial(select, protect=0.1),
    "evicted": partial(select, evicted=0.5, protect=0.2, sink=3),
    "all evicted": partial(select, evicted=1.0, sink=3),
    "everything at once": partial(
        select,
        levels=4,
        budgets=[[7, 20], [3, 15]],
        key_lengths=[[90, 40], [64, 12]],
        protect=0.05,
        evicted=0.3,
        sink=2,
        recent=3,
    ),
    "sliced": partial(select, sliced=True),
    "D 3": partial(select, dim=3),
}
