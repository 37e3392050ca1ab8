"""Cases of the attention ops."""

from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from pcbench import reference
from pcbench.measure.kernels.draws import Draws

__all__ = ["CACHED", "CALIBRATED", "DECODE", "MERGE", "WINDOW", "cached", "calibrated", "decode", "merge", "window"]

Make = Callable[[Draws], dict[str, Any]]

# so many weights of 2^-26 are 6e-5, but beside a sum of 1 each alone is below float32's last bit
_SINK_KEYS = 4096


def calibrated(
    draw: Draws,
    *,
    batch: int = 1,
    heads: int = 2,
    kv_heads: int = 1,
    rows: int,
    keys: int,
    dim: int = 64,
    causal: bool = True,
    mass_rows: int = 8,
    query_lengths: list[int] | None = None,
    key_lengths: list[list[int]] | None = None,
    evicted: float | None = None,
    evicted_heads: int | None = None,
    incoming: bool = False,
    sliced: bool = False,
    sharp: float = 1.0,
) -> dict[str, Any]:
    """Chunks of random keys; `sharp` scales the scores."""
    q = draw.heads(batch, heads, rows, dim, sliced=sliced) * sharp
    k, v = (draw.heads(batch, kv_heads, keys, dim, sliced=sliced) for _ in range(2))
    inputs: dict[str, Any] = {"q": q, "k": k, "v": v, "scale": dim**-0.5, "causal": causal, "mass_rows": mass_rows}
    if query_lengths is not None:
        inputs["query_lengths"] = draw.ints(query_lengths)
    if key_lengths is not None:
        inputs["key_lengths"] = draw.ints(key_lengths)
        # what lies beyond a length may be anything
        beyond = torch.arange(keys, device=k.device) >= inputs["key_lengths"][..., None]
        k[beyond], v[beyond] = torch.nan, torch.inf
    if evicted is not None:
        inputs["evicted"] = draw.bits(batch, evicted_heads or kv_heads, keys, share=evicted)
    if incoming:
        inputs["out_in"] = draw.normal(batch, heads, rows, dim, dtype=torch.float32)
        inputs["lse_in"] = draw.normal(batch, heads, rows, dtype=torch.float32) * 3
        inputs["lse_in"][..., ::3] = -torch.inf
        inputs["out_in"][..., ::3, :] = torch.nan
    return inputs


def _sink(inputs: dict[str, Any], k: Tensor, v: Tensor, at: int) -> dict[str, Any]:
    """One key is 18 nats above the others, whose values are 500 times as large."""
    inputs["q"].fill_(1.0)
    k.zero_()
    k[..., at, :] = 18 * k.shape[-1] ** -0.5
    v.mul_(0.1).add_(1.0)
    v[..., at, :] *= 0.002
    return inputs


def _calibrated_sink(draw: Draws, *, at: int) -> dict[str, Any]:
    inputs = calibrated(draw, rows=5, keys=_SINK_KEYS, causal=False)
    return _sink(inputs, inputs["k"], inputs["v"], at)


def _cached_sink(draw: Draws, *, at: int) -> dict[str, Any]:
    # eight rows of a batch, so that few parts share the keys of each
    inputs = cached(draw, heads=2, rows=1, lengths=[[_SINK_KEYS]], slots=[[0]] * 8, causal_last=False)
    rows = slice(int(inputs["starts"]), int(inputs["starts"]) + _SINK_KEYS)
    return _sink(inputs, inputs["k_rows"][rows], inputs["v_rows"][rows], at)


def _special(draw: Draws, *, where: str, value: float) -> dict[str, Any]:
    inputs = calibrated(draw, heads=4, kv_heads=2, rows=70, keys=70)
    inputs[where] = inputs[where].clone()
    inputs[where][0, 1, 40, 3] = value
    return inputs


CALIBRATED: dict[str, Make] = {
    **{f"{n} keys": partial(calibrated, rows=n, keys=n) for n in (0, 1, 31, 33, 63, 65, 1000)},
    **{f"{n} keys, all visible": partial(calibrated, rows=5, keys=n, causal=False) for n in (0, 1, 31, 33, 63, 65)},
    **{f"D {d}": partial(calibrated, rows=130, keys=130, dim=d, heads=4, kv_heads=2) for d in (64, 96, 128)},
    **{f"G {g}": partial(calibrated, rows=37, keys=37, heads=2 * g, kv_heads=2) for g in (1, 3, 8, 16)},
    "more keys than rows": partial(calibrated, rows=70, keys=333, dim=128),
    "more rows than keys": partial(calibrated, rows=90, keys=40),
    "blocks and tails": partial(calibrated, batch=2, heads=6, kv_heads=2, rows=301, keys=557, dim=96),
    "no mass": partial(calibrated, rows=40, keys=40, mass_rows=0),
    "mass of every row": partial(calibrated, rows=150, keys=150, mass_rows=150),
    "mass of more rows than there are": partial(calibrated, rows=5, keys=50, mass_rows=32),
    "unequal lengths": partial(
        calibrated,
        batch=3,
        heads=4,
        kv_heads=2,
        rows=100,
        keys=100,
        query_lengths=[100, 33, 0],
        key_lengths=[[100, 64], [33, 1], [31, 0]],
    ),
    "rows without keys": partial(
        calibrated, batch=2, rows=40, keys=40, query_lengths=[40, 35], key_lengths=[[10], [0]]
    ),
    "unequal keys, all visible": partial(
        calibrated, batch=2, kv_heads=2, rows=9, keys=300, causal=False, key_lengths=[[300, 257], [1, 32]]
    ),
    "some keys evicted": partial(calibrated, heads=4, kv_heads=2, rows=200, keys=200, evicted=0.3),
    "keys evicted by query head": partial(
        calibrated, heads=4, kv_heads=2, rows=200, keys=200, evicted=0.3, evicted_heads=4
    ),
    "all keys evicted": partial(calibrated, rows=65, keys=65, evicted=1.0),
    "no key evicted": partial(calibrated, rows=65, keys=65, evicted=0.0),
    "incoming state": partial(calibrated, heads=4, kv_heads=2, rows=100, keys=100, incoming=True),
    "incoming state, nothing new": partial(calibrated, rows=33, keys=33, evicted=1.0, incoming=True),
    "incoming state, unequal lengths": partial(
        calibrated, batch=2, rows=33, keys=33, query_lengths=[33, 7], key_lengths=[[33], [20]], incoming=True
    ),
    "sliced": partial(calibrated, batch=2, heads=4, kv_heads=2, rows=100, keys=100, sliced=True),
    "large scores": partial(calibrated, rows=100, keys=100, sharp=8.0),
    "very large scores": partial(calibrated, rows=100, keys=100, sharp=32.0),
    "an attention sink, first": partial(_calibrated_sink, at=0),
    "an attention sink, last": partial(_calibrated_sink, at=-1),
    "a NaN in a query": partial(_special, where="q", value=torch.nan),
    "a NaN in a key": partial(_special, where="k", value=torch.nan),
    "an infinity in a key": partial(_special, where="k", value=torch.inf),
}


def _layout(draw: Draws, lengths: list[list[int]]) -> tuple[list[list[int]], int]:
    """Where segments start that lie in a shuffled order with rows between them, and the rows there are."""
    places = [(n, h) for n in range(len(lengths)) for h in range(len(lengths[0]))]
    order = torch.randperm(len(places), generator=draw.generator, device=draw.generator.device).tolist()
    starts = [[0] * len(lengths[0]) for _ in lengths]
    row = 2
    for n, h in (places[i] for i in order):
        starts[n][h] = row
        row += lengths[n][h] + 3
    return starts, row


def _spoil(rows: Tensor, starts: list[list[int]], lengths: list[list[int]], value: float) -> Tensor:
    """What lies between segments may be anything."""
    unused = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    for start, length in zip(chain(*starts), chain(*lengths), strict=True):
        unused[start : start + length] = False
    rows[unused] = value
    return rows


def _store(draw: Draws, lengths: list[list[int]], *, dim: int = 64, shared_keys: bool = False) -> dict[str, Any]:
    """A store of shuffled segments; with `shared_keys` those of a slot have the same keys."""
    starts, count = _layout(draw, lengths)
    k_rows, v_rows = (draw.normal(count, dim) for _ in range(2))
    store = {
        "k_rows": _spoil(k_rows, starts, lengths, torch.nan),
        "v_rows": _spoil(v_rows, starts, lengths, torch.inf),
        "starts": draw.ints(starts),
        "lengths": draw.ints(lengths),
    }
    if shared_keys:
        longest = [[max(of_slot)] for of_slot in lengths]
        starts, count = _layout(draw, longest)
        store |= {
            "k_rows": _spoil(draw.normal(count, dim), starts, longest, torch.nan),
            "starts": draw.ints([of_slot * len(lengths[0]) for of_slot in starts]),
            "v_starts": store["starts"],
        }
    return store


def cached(
    draw: Draws,
    *,
    heads: int = 4,
    rows: int = 5,
    lengths: list[list[int]],
    slots: list[list[int]],
    dim: int = 64,
    causal_last: bool = True,
    evicted: float | None = None,
    evicted_heads: int | None = None,
    sliced: bool = False,
    shared_keys: bool = False,
) -> dict[str, Any]:
    """New rows over shuffled segments of a store."""
    store = _store(draw, lengths, dim=dim, shared_keys=shared_keys)
    inputs = store | {
        "q": draw.heads(len(slots), heads, rows, dim, sliced=sliced),
        "slots": draw.ints(slots),
        "scale": dim**-0.5,
        "causal_last": causal_last,
    }
    if evicted is not None:
        shape = len(lengths), evicted_heads or len(lengths[0]), max(32, *(max(n) for n in lengths)) - 31
        inputs["evicted"] = draw.bits(*shape, share=evicted)
    if sliced:
        inputs["k_rows"], inputs["v_rows"] = (
            torch.cat([x, x], -1)[:, :dim] for x in (inputs["k_rows"], inputs["v_rows"])
        )
    return inputs


_UNEVEN = [[33, 64], [0, 1], [100, 31], [5, 9]]

CACHED: dict[str, Make] = {
    **{f"decode, {n} keys": partial(cached, rows=1, lengths=[[n]], slots=[[0]]) for n in (1, 31, 33, 63, 65, 1000)},
    "decode, D 96": partial(cached, rows=1, lengths=_UNEVEN, slots=[[0, 2, 3]], dim=96),
    "decode, D 128": partial(cached, rows=1, heads=6, lengths=_UNEVEN, slots=[[0, 2, 3]], dim=128),
    "decode, many splits": partial(cached, rows=1, heads=3, lengths=[[2500], [1300], [7]], slots=[[0, 1, 2]]),
    "query": partial(cached, rows=9, lengths=_UNEVEN, slots=[[0, 1, 2, 3]]),
    "query, all visible": partial(cached, rows=9, lengths=_UNEVEN, slots=[[3, 0]], causal_last=False),
    "query, more rows than own keys": partial(cached, rows=12, lengths=_UNEVEN, slots=[[0, 3]]),
    "query, a long one": partial(cached, rows=210, heads=3, lengths=[[700], [210]], slots=[[0, 1]], dim=128),
    "query, H = Hkv": partial(cached, heads=2, rows=40, lengths=_UNEVEN, slots=[[2, 0]]),
    "batch with unused places": partial(
        cached, lengths=_UNEVEN, slots=[[0, -1, 3], [-1, -1, -1], [2, 1, -1], [3, -1, -1]]
    ),
    "no slots": partial(cached, lengths=_UNEVEN, slots=[[], []]),
    "empty segments": partial(cached, lengths=[[0, 0], [0, 0]], slots=[[0, 1]]),
    "some keys evicted": partial(cached, lengths=_UNEVEN, slots=[[0, 2, 3]], evicted=0.4),
    "keys evicted by query head": partial(
        cached, rows=1, lengths=_UNEVEN, slots=[[0, 2, 3]], evicted=0.4, evicted_heads=4
    ),
    "all keys evicted": partial(cached, lengths=[[1, 20], [32, 7]], slots=[[1, 0]], evicted=1.0),
    "sliced": partial(cached, lengths=_UNEVEN, slots=[[0, 2, 3], [3, 2, 0]], sliced=True),
    "keys that heads share": partial(cached, lengths=_UNEVEN, slots=[[0, 2, 3], [3, 2, 0]], shared_keys=True),
    "decode, keys that heads share": partial(
        cached, rows=1, heads=6, lengths=[[700, 20], [1, 300]], slots=[[0, 1]], dim=128, shared_keys=True
    ),
    "an attention sink, first": partial(_cached_sink, at=0),
    "an attention sink, last": partial(_cached_sink, at=-1),
}


def decode(
    draw: Draws,
    *,
    heads: int = 4,
    lengths: list[list[int]],
    longest: int | None = None,
    dim: int = 64,
    sliced: bool = False,
    shared_keys: bool = False,
) -> dict[str, Any]:
    """One new token a batch row over its own shuffled segments."""
    inputs = cached(
        draw, heads=heads, rows=1, lengths=lengths, slots=[[]] * len(lengths), dim=dim, sliced=sliced,
        shared_keys=shared_keys,
    )  # fmt: skip
    del inputs["slots"], inputs["causal_last"]
    return inputs | {"longest": max(map(max, lengths)) if longest is None else longest}


DECODE: dict[str, Make] = {
    **{f"{n} keys": partial(decode, lengths=[[n]]) for n in (0, 1, 31, 33, 63, 65, 1000)},
    **{
        f"D {dim}, G {group}": partial(decode, heads=2 * group, lengths=[[33, 64], [100, 31]], dim=dim)
        for dim, group in ((64, 8), (96, 3), (128, 1), (128, 4))
    },
    **{f"G {group}": partial(decode, heads=group, lengths=[[70]]) for group in (16, 17, 20, 40)},
    "budgets of heads": partial(decode, heads=6, lengths=_UNEVEN),
    "many splits": partial(decode, heads=3, lengths=[[2500], [1300], [7]], dim=96),
    "more keys than any segment has": partial(decode, lengths=_UNEVEN, longest=1100),
    "nothing to report": partial(decode, lengths=[[0, 0]]),
    "sliced": partial(decode, lengths=_UNEVEN, sliced=True),
    "keys that heads share": partial(decode, heads=8, lengths=[[200, 33], [1, 90]], dim=128, shared_keys=True),
}


def window(draw: Draws, *, longest: int = 100, window: int = 4, **shape: Any) -> dict[str, Any]:
    """The last rows of `cached` with their log-sum-exp."""
    inputs = cached(draw, **shape)
    _, lse = reference.cached_attention(**inputs)
    del inputs["v_rows"]
    inputs.pop("evicted", None)
    q = inputs.pop("q")
    return inputs | {"q_last": q[:, :, -window:], "lse": lse[:, :, -window:], "longest": longest}


WINDOW: dict[str, Make] = {
    "query": partial(window, rows=9, lengths=_UNEVEN, slots=[[0, 1, 2, 3]]),
    "query, all visible": partial(window, rows=9, lengths=_UNEVEN, slots=[[3, 0]], causal_last=False),
    "one row": partial(window, rows=1, window=1, lengths=_UNEVEN, slots=[[0, 2, 3]], dim=128),
    "every row": partial(window, rows=40, window=40, heads=6, lengths=_UNEVEN, slots=[[0, 2]], dim=96),
    "more rows than own keys": partial(window, rows=12, window=12, lengths=_UNEVEN, slots=[[0, 3]]),
    "batch with unused places": partial(window, lengths=_UNEVEN, slots=[[0, -1, 3], [-1, -1, -1], [2, 1, -1]]),
    "long segments": partial(window, heads=3, rows=8, longest=700, lengths=[[700], [257]], slots=[[0, 1]]),
    "nothing to report": partial(window, longest=0, lengths=[[0, 0]], slots=[[0]]),
    "no slots": partial(window, lengths=_UNEVEN, slots=[[]]),
    "sliced": partial(window, rows=9, lengths=_UNEVEN, slots=[[0, 2], [3, 1]], sliced=True),
}


def merge(
    draw: Draws, *, parts: int, batch: int = 2, heads: int = 3, rows: int = 7, dim: int = 64, silent: bool = False
) -> dict[str, Any]:
    """`silent` parts saw nothing in some rows, and nobody saw anything in one."""
    outs = draw.normal(parts, batch, heads, rows, dim, dtype=torch.float32)
    lses = draw.normal(parts, batch, heads, rows, dtype=torch.float32) * 5
    if silent:
        lses[:-1, :, :, ::2] = -torch.inf
        lses[:, 1, 2, 0] = -torch.inf
        outs[0] = torch.where((lses[0] == -torch.inf)[..., None], torch.nan, outs[0])
    return {"outs": outs, "lses": lses}


def _sliced_merge(draw: Draws) -> dict[str, Any]:
    inputs = merge(draw, parts=6)
    return {"outs": inputs["outs"][::2].transpose(1, 2), "lses": inputs["lses"][::2].transpose(1, 2)}


MERGE: dict[str, Make] = {
    **{f"{n} parts": partial(merge, parts=n) for n in (0, 1, 2, 9)},
    "no rows": partial(merge, parts=2, rows=0),
    "D 80": partial(merge, parts=3, dim=80),
    "D 3": partial(merge, parts=3, dim=3),
    "parts without keys": partial(merge, parts=4, silent=True),
    "sliced": _sliced_merge,
}
