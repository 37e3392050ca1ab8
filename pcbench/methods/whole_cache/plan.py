"""Attention of a text's first tokens, whose keys and values are all stored, and of tokens over what is stored."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pcbench.types import ModelSpec, Ops, RaggedKVStore

__all__ = ["FreshPlan", "StoredPlan"]


@dataclass(frozen=True)
class FreshPlan:
    """Causal attention of a text's first tokens; the store takes their keys and values."""

    spec: ModelSpec

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, store: RaggedKVStore, ops: Ops) -> Tensor:
        tokens = torch.arange(k.shape[2], dtype=torch.int32, device=k.device).expand(*k.shape[:2], -1)
        store.fill(layer, k, v, tokens, torch.full(k.shape[:2], k.shape[2], dtype=torch.int32, device=k.device))
        return self.attended(layer, q, k, v, ops)

    def attended(self, layer: int, q: Tensor, k: Tensor, v: Tensor, ops: Ops) -> Tensor:
        """[1, H, T, D]: the rows' attention among themselves."""
        out: Tensor = ops.calibrated_attention(q, k, v, scale=self.spec.scale, causal=True)[0]
        return out


@dataclass(frozen=True)
class StoredPlan:
    """Attention of new tokens over everything that is stored, themselves included."""

    spec: ModelSpec

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, store: RaggedKVStore, ops: Ops) -> Tensor:
        rows = store.rows(layer)
        slots = torch.zeros(1, 1, dtype=torch.int32, device=q.device)
        out: Tensor = ops.cached_attention(
            q, rows.k_rows, rows.v_rows, rows.starts, rows.lengths, slots,
            scale=self.spec.scale, causal_last=q.shape[2] > 1,
        )[0]  # fmt: skip
        return out
