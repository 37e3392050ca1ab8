"""Cases of quantized_attention: segments of a quantised store anywhere in its blocks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pcbench.measure.kernels.attention_cases import cached
from pcbench.measure.kernels.draws import Draws
from pcbench.reference.quantized import quantize_keys, quantize_values
from pcbench.types import KV_BLOCK, KVDtype

__all__ = ["QUANTIZED", "quantized"]


def quantized(draw: Draws, *, kv_dtype: KVDtype = "int8", **shape: Any) -> dict[str, Any]:
    """New rows over a store as of `cached`, quantised; channels of keys are far from 0, as those of models are."""
    inputs = cached(draw, causal_last=False, **shape)
    del inputs["causal_last"]
    k, v = (inputs.pop(name) for name in ("k_rows", "v_rows"))
    unused = k.isnan().any(1)
    k = k + 2 * draw.normal(k.shape[1])
    rows = len(k)
    k, v = (torch.nn.functional.pad(_emptied(x, unused), (0, 0, 0, -rows % KV_BLOCK)) for x in (k, v))
    keys = quantize_keys(k, kv_dtype, draw.ints(len(k)))
    values = quantize_values(v[:rows], kv_dtype)
    # what lies between segments, and blocks without a used row, may be anything
    free = torch.nn.functional.pad(unused, (0, -rows % KV_BLOCK), value=True).view(-1, KV_BLOCK).all(1)
    found = {
        "k_codes": _spoiled(keys.codes[:rows].contiguous(), unused),
        "v_codes": _spoiled(values.codes, unused),
        "k_scales": keys.scales.masked_fill(free[:, None], torch.nan),
        "v_scales": values.scales.masked_fill(unused, torch.nan),
    }
    if keys.zeros is not None and values.zeros is not None:
        found["k_zeros"] = keys.zeros.masked_fill(free[:, None], torch.inf)
        found["v_zeros"] = values.zeros.masked_fill(unused, torch.nan)
    return inputs | found


def _emptied(x: Tensor, unused: Tensor) -> Tensor:
    return x.float().masked_fill(unused[:, None], 0.0)


def _spoiled(codes: Tensor, unused: Tensor) -> Tensor:
    """Rows of 127, which is no number in fp8."""
    codes.view(torch.uint8)[unused] = 127
    return codes


_UNEVEN = [[33, 64], [0, 1], [100, 31], [5, 9]]

QUANTIZED: dict[str, Callable[[Draws], dict[str, Any]]] = {
    **{f"{n} keys": partial(quantized, rows=1, lengths=[[n]], slots=[[0]]) for n in (1, 31, 63, 65, 1000)},
    "query": partial(quantized, rows=9, lengths=_UNEVEN, slots=[[0, 1, 2, 3]]),
    "many splits": partial(quantized, rows=1, heads=3, lengths=[[2500], [1300], [7]], slots=[[0, 1, 2]]),
    "batch with unused places": partial(
        quantized, lengths=_UNEVEN, slots=[[0, -1, 3], [-1, -1, -1], [2, 1, -1], [3, -1, -1]]
    ),
    "no slots": partial(quantized, lengths=_UNEVEN, slots=[[], []]),
    "empty segments": partial(quantized, lengths=[[0, 0], [0, 0]], slots=[[0, 1]]),
    "some keys evicted": partial(quantized, lengths=_UNEVEN, slots=[[0, 2, 3]], evicted=0.4),
    "keys evicted by query head": partial(
        quantized, rows=1, lengths=_UNEVEN, slots=[[0, 2, 3]], evicted=0.4, evicted_heads=4
    ),
    "sliced": partial(quantized, lengths=_UNEVEN, slots=[[0, 2, 3], [3, 2, 0]], sliced=True),
    **{
        f"{kv_dtype}, D {dim}, {rows} rows": partial(
            quantized, kv_dtype=kv_dtype, heads=2, rows=rows, dim=dim, lengths=[[70, 9], [130, 64]], slots=[[0, 1]]
        )
        for dim in (64, 96, 128)
        for kv_dtype, rows in (("int8", 40), ("int4", 1), ("fp8", 1), ("int4", 20))
    },
    "fp8, many rows": partial(quantized, kv_dtype="fp8", rows=70, lengths=_UNEVEN, slots=[[0, 2]]),
}
