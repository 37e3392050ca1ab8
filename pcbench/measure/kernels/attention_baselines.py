"""Stock attention: torch's SDPA by kernel, and the libraries that may be installed."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from pcbench import ops
from pcbench.errors import BackendUnavailable
from pcbench.measure.sdpa import KERNELS
from pcbench.ops.providers import PROVIDERS
from pcbench.reference.dual_chunk import turned
from pcbench.reference.quantized import dequantize_keys, dequantize_values

__all__ = ["CACHED", "CALIBRATED", "DECODE", "DUAL_CHUNK", "KEY_MASS", "MERGE", "QUANTIZED", "WINDOW"]

Call = Callable[[], Any]
# q [B, H, Q, D], k and v [B, Hkv, S, D], scale, and whether rows see only keys up to their own, counted from the end
Attend = Callable[[Tensor, Tensor, Tensor, float, bool], Call]


def _mask(q: Tensor, k: Tensor, causal: bool) -> dict[str, Any]:
    """What SDPA must be told of rows that see only keys up to their own, counted from the end."""
    rows, keys = q.shape[2], k.shape[2]
    if not causal or rows == 1:
        return {}
    if rows == keys:
        return {"is_causal": True}
    if q.device.type == "cpu":
        return {"attn_mask": torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows)}
    # a mask that flash kernels take too
    return {"attn_mask": causal_lower_right(rows, keys)}


def _sdpa(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool, *, backend: SDPBackend) -> Call:
    options = _mask(q, k, causal) | {"scale": scale, "enable_gqa": q.shape[1] != k.shape[1]}

    def call() -> Tensor:
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(q, k, v, **options)

    return call


def _repeated(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool) -> Call:
    """SDPA by torch's own choice over keys and values that are repeated for every query head first."""
    group, mask = q.shape[1] // k.shape[1], _mask(q, k, causal)

    def call() -> Tensor:
        wide = (x.repeat_interleave(group, 1) for x in (k, v))
        return scaled_dot_product_attention(q, *wide, scale=scale, **mask)

    return call


def _flash(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool, *, package: str) -> Call:
    """`flash_attn_func` of flash-attn or of AITER, [B, T, H, D]."""
    function = _installed(package).flash_attn_func
    q, k, v = (x.transpose(1, 2).contiguous() for x in (q, k, v))
    return lambda: function(q, k, v, softmax_scale=scale, causal=causal).transpose(1, 2)


def _flashinfer(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool) -> Call:
    """FlashInfer's single-request kernels, [T, H, D]."""
    package = _installed("flashinfer")
    if q.shape[0] != 1:
        raise BackendUnavailable(f"flashinfer: one request, got {q.shape[0]}")
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (q, k, v))
    if q.shape[0] == 1:
        return lambda: package.single_decode_with_kv_cache(q[0], k, v, sm_scale=scale)[None, :, None]
    prefill = package.single_prefill_with_kv_cache
    return lambda: prefill(q, k, v, causal=causal, sm_scale=scale).transpose(0, 1)[None]


def _installed(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise BackendUnavailable(f"{package}: not installed ({error})") from None


_ATTEND: dict[str, Attend] = {
    **{f"sdpa-{name}": partial(_sdpa, backend=kernel) for name, kernel in KERNELS.items()},
    "sdpa-repeated": _repeated,
    "flash-attn": partial(_flash, package="flash_attn"),
    "flashinfer": _flashinfer,
    "aiter": partial(_flash, package="aiter"),
}


def _over_chunks(inputs: dict[str, Any], *, attend: Attend) -> Call:
    return attend(inputs["q"], inputs["k"], inputs["v"], inputs["scale"], inputs["causal"])


def _by_library(inputs: dict[str, Any], *, name: str) -> Call:
    """The op itself with its attention by a library and our mass behind it: what chunks run by."""
    device = inputs["q"].device.type
    found = ops.backend("hip" if device == "cuda" and torch.version.hip else device, name)
    found.calibrated_attention(**inputs)
    if found.kernels != name:
        raise BackendUnavailable(f"by-{name}: a call that libraries take, got one that is our own kernel's")
    return partial(found.calibrated_attention, **inputs)


def _over_cache(inputs: dict[str, Any], *, attend: Attend) -> Call:
    k, v = (_dense(inputs, inputs[name]) for name in ("k_rows", "v_rows"))
    return attend(inputs["q"], k, v, inputs["scale"], inputs["causal_last"])


def _dense(inputs: dict[str, Any], rows: Tensor) -> Tensor:
    """The listed segments, all of one length, one after another: [B, Hkv, P·L, D]."""
    slots = inputs["slots"].long()
    length = int(inputs["lengths"].max())
    at = inputs["starts"].long()[slots][..., None] + torch.arange(length, device=rows.device)  # [B, P, Hkv, L]
    return rows[at].transpose(1, 2).flatten(2, 3)


def _rows_of_codes(inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """All rows of a quantised store in the dtype of q."""
    dtype = inputs["q"].dtype
    k = dequantize_keys(inputs["k_codes"], inputs["k_scales"], inputs.get("k_zeros"), dtype)
    return k, dequantize_values(inputs["v_codes"], inputs["v_scales"], inputs.get("v_zeros"), dtype)


def _dequantized(inputs: dict[str, Any]) -> Call:
    """The whole store dequantised by torch, its segments laid one after another, SDPA by torch's own choice."""
    q, scale, gqa = inputs["q"], inputs["scale"], inputs["q"].shape[1] != inputs["starts"].shape[1]

    def call() -> Tensor:
        k, v = (_dense(inputs, rows) for rows in _rows_of_codes(inputs))
        return scaled_dot_product_attention(q, k, v, scale=scale, enable_gqa=gqa)

    return call


def _of_floats(inputs: dict[str, Any]) -> Call:
    """SDPA over the same keys and values that are not quantised: what less reading is worth."""
    k, v = (_dense(inputs, rows) for rows in _rows_of_codes(inputs))
    q, scale, gqa = inputs["q"], inputs["scale"], inputs["q"].shape[1] != k.shape[1]
    return lambda: scaled_dot_product_attention(q, k, v, scale=scale, enable_gqa=gqa)


def _decode_matmul(inputs: dict[str, Any]) -> Call:
    """Scores over contiguous keys, softmax, weighted values, and the weights summed over the heads of each group."""
    q, scale = inputs["q"], inputs["scale"]
    slots = torch.arange(q.shape[0], device=q.device)[:, None]
    k, v = (_dense(inputs | {"slots": slots}, inputs[name]) for name in ("k_rows", "v_rows"))
    grouped = q.view(q.shape[0], k.shape[1], -1, q.shape[3])

    def call() -> tuple[Tensor, Tensor, Tensor]:
        scores = (grouped @ k.transpose(-1, -2)).float() * scale
        lse = scores.logsumexp(-1)
        weights = (scores - lse[..., None]).exp()
        return (weights.to(v.dtype) @ v).view(q.shape), lse.flatten(1), weights.sum(2)

    return call


def _whole(inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Keys and values of each batch row, segments all of one length, repeated for every query head."""
    batch, heads = inputs["q"].shape[:2]
    slots = torch.arange(batch, device=inputs["q"].device)[:, None]
    k, v = (_dense(inputs | {"slots": slots}, inputs[name]) for name in ("k_rows", "v_rows"))
    return k.repeat_interleave(heads // k.shape[1], 1), v.repeat_interleave(heads // v.shape[1], 1)


def _full(inputs: dict[str, Any]) -> Call:
    """Plain causal attention over the same keys: SDPA by torch's own choice."""
    q, (k, v) = inputs["q"], _whole(inputs)
    mask = _mask(q, k, True)
    return lambda: scaled_dot_product_attention(q, k, v, scale=inputs["scale"], **mask)


def _three_calls(inputs: dict[str, Any]) -> Call:
    """Flash attention over own, previous and further chunks of each chunk's queries, merged by log-sum-exp."""
    q, (k, v) = inputs["q"], _whole(inputs)
    period, turns, scale = inputs["period"], inputs["turns"], inputs["scale"]
    rows, keys, clip = q.shape[2], k.shape[2], turns.shape[0] - 1
    first = keys - rows
    if rows > 1 and first % period:
        raise BackendUnavailable(f"sdpa-merged: rows from the beginning of a chunk on, got {rows} of {keys}")
    p = torch.arange(first, keys, device=q.device) % period
    on_cpu = q.device.type == "cpu"
    flash = (
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        if on_cpu
        else torch.ops.aten._scaled_dot_product_flash_attention
    )

    def over(some: Tensor, begin: int, end: int, causal: bool) -> tuple[Tensor, Tensor]:
        out, lse, *_ = flash(some, k[:, :, begin:end], v[:, :, begin:end], 0.0, causal, scale=scale)
        return out, lse

    def call() -> Tensor:
        previous, further = (
            turned(q.float(), turns[by], inputs["interleaved"]).to(q.dtype)
            for by in ((clip - p).clamp_max(period), clip - p)
        )
        outs = []
        for chunk in range(first // period, (keys - 1) // period + 1):
            begin, end = chunk * period, min(keys, (chunk + 1) * period)
            of_chunk = slice(max(0, begin - first), end - first)
            parts = [over(q[:, :, of_chunk], begin, end, rows > 1)]
            if chunk > 0:
                parts.append(over(previous[:, :, of_chunk], begin - period, begin, False))
            if chunk > 1:
                parts.append(over(further[:, :, of_chunk], 0, begin - period, False))
            weights = torch.stack([lse for _, lse in parts]).softmax(0)[..., None]
            outs.append((torch.stack([out for out, _ in parts]) * weights).sum(0))
        return torch.cat(outs, 2)

    return call


def _summed_weights(q: Tensor, lse: Tensor, k: Tensor, scale: float, causal: bool) -> Callable[[], Tensor]:
    """[B, H, S]: scores of all rows over contiguous keys, exp under the given lse, sum over the rows."""
    scores_of = _products(q, k)
    rows, keys = q.shape[2], k.shape[2]
    hidden = torch.ones(rows, keys, dtype=torch.bool, device=q.device).triu(keys - rows + 1)

    def call() -> Tensor:
        weights = (scores_of().float() * scale - lse[..., None]).exp()
        return (weights.masked_fill(hidden, 0.0) if causal else weights).sum(2)

    return call


def _products(q: Tensor, k: Tensor) -> Callable[[], Tensor]:
    """[B, H, Q, S]: every row with every key, one matmul a kv-head."""
    batch, heads, rows, dim = q.shape
    kv_heads, keys = k.shape[1:3]
    grouped = q.reshape(batch, kv_heads, heads // kv_heads * rows, dim)
    return lambda: (grouped @ k.transpose(-1, -2)).view(batch, heads, rows, keys)


def _window_matmul(inputs: dict[str, Any]) -> Call:
    """The summed weights of the window over the segments one after another."""
    sums = _summed_weights(inputs["q_last"], inputs["lse"], _dense(inputs, inputs["k_rows"]), inputs["scale"], True)
    places = inputs["slots"].shape[1]
    return lambda: sums().unflatten(2, (places, -1)).transpose(1, 2)


def _last_rows(inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The rows that key_mass sums over, [B, H, R, D], and their log-sum-exp."""
    first = max(0, inputs["q"].shape[2] - inputs["mass_rows"])
    return inputs["q"][:, :, first:], inputs["lse"][:, :, first:]


def _mass_matmul(inputs: dict[str, Any]) -> Call:
    """The summed weights of the last rows."""
    return _summed_weights(*_last_rows(inputs), inputs["k"], inputs["scale"], inputs["causal"])


def _mass_products(inputs: dict[str, Any]) -> Call:
    """The products of the last rows with all keys alone."""
    return _products(_last_rows(inputs)[0], inputs["k"])


def _merge_softmax(inputs: dict[str, Any]) -> Call:
    outs, lses = inputs["outs"], inputs["lses"]
    return lambda: ((outs * lses.softmax(0)[..., None]).sum(0), lses.logsumexp(0))


CALIBRATED = {
    **{name: partial(_over_chunks, attend=attend) for name, attend in _ATTEND.items()},
    **{f"by-{name}": partial(_by_library, name=name) for name in PROVIDERS},
}
CACHED = {name: partial(_over_cache, attend=attend) for name, attend in _ATTEND.items()}
DECODE = {"torch-matmul": _decode_matmul}
DUAL_CHUNK = {"sdpa-merged": _three_calls, "floor-full": _full}
KEY_MASS = {"torch-matmul": _mass_matmul, "floor-gemm": _mass_products}
QUANTIZED = {"torch-dequantize": _dequantized, "floor-unquantized": _of_floats}
WINDOW = {"torch-matmul": _window_matmul}
MERGE = {"torch-softmax": _merge_softmax}
