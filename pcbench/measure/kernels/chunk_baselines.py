"""Stock torch for scoring and selecting, and the floors of both."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, max_pool1d

__all__ = ["CHUNK_SELECT", "CHUNK_TOPK", "NLL", "SELECT"]

Call = Callable[[], Any]


def _select_topk(inputs: dict[str, Any]) -> Call:
    """Sum of each group, max_pool1d, topk, sort, gather."""
    mass, k, v = inputs["mass"], inputs["k"], inputs["v"]
    capacity, pool = inputs["capacity"], inputs["pool"]
    batch, kv_heads, keys, dim = k.shape

    def call() -> tuple[Tensor, Tensor, Tensor]:
        total = mass.view(batch, kv_heads, -1, keys).sum(2)
        index = max_pool1d(total, pool, 1, pool // 2).topk(capacity).indices.sort().values
        at = index[..., None].expand(-1, -1, -1, dim)
        return k.gather(2, at), v.gather(2, at), index

    return call


def _select_copy(inputs: dict[str, Any]) -> Call:
    """Copies as many bytes as the op moves: the masses, and the kept keys and values, in and out."""
    k = inputs["k"]
    kept = k.shape[0] * k.shape[1] * min(inputs["capacity"], k.shape[2]) * k.shape[3]
    # half of the bytes are read and half are written
    source = torch.empty(inputs["mass"].nbytes // 2 + 2 * kept * k.itemsize, dtype=torch.uint8, device=k.device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _cross_entropy(inputs: dict[str, Any]) -> Call:
    """In float32, as the op sums: 16-bit logits are copied first."""
    logits, targets = inputs["logits"], inputs["targets"].long()
    return lambda: cross_entropy(logits.float(), targets, reduction="none")


def _logsumexp(inputs: dict[str, Any]) -> Call:
    """Log-sum-exp and the targets' logits without a float32 copy; of 16-bit logits it has 16 bits, less than the op."""
    logits, targets = inputs["logits"], inputs["targets"].long()[:, None]
    return lambda: (logits.logsumexp(1), logits.gather(1, targets)[:, 0])


def _lowest(inputs: dict[str, Any], scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    best = torch.cat([inputs["best_scores"], scores]).topk(inputs["best_scores"].shape[0], largest=False)
    ids, slots = (torch.cat([inputs[f"best_{name}"], inputs[f"{new}"]]) for name, new in _LISTS)
    return best.values, ids[best.indices], slots[best.indices]


_LISTS = (("ids", "chunk_ids"), ("slots", "slots"))


def _chunk_topk(inputs: dict[str, Any]) -> Call:
    return lambda: _lowest(inputs, inputs["scores"])


def _full_logits(inputs: dict[str, Any]) -> Call:
    """All logits at once, cross_entropy, mean of each chunk, topk."""
    hidden, head, segments = inputs["hidden"], inputs["lm_head"], inputs["segments"].long()
    targets = inputs["targets"].long()
    counts = segments.bincount(minlength=inputs["chunk_ids"].shape[0]).float()

    def call() -> tuple[Tensor, Tensor, Tensor]:
        losses = cross_entropy((hidden @ head.T).float(), targets, reduction="none")
        return _lowest(inputs, torch.zeros_like(counts).index_add(0, segments, losses) / counts)

    return call


def _gemm(inputs: dict[str, Any]) -> Call:
    """The matmul alone, into memory that is there."""
    hidden, head = inputs["hidden"], inputs["lm_head"]
    logits = hidden.new_empty(hidden.shape[0], head.shape[0])
    return partial(torch.mm, hidden, head.T, out=logits)


SELECT = {"torch-topk": _select_topk, "floor-copy": _select_copy}
NLL = {"torch-cross-entropy": _cross_entropy, "torch-logsumexp": _logsumexp}
CHUNK_TOPK = {"torch-topk": _chunk_topk}
CHUNK_SELECT = {"full-logits": _full_logits, "floor-gemm": _gemm}
