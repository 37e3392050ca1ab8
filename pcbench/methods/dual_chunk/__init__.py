"""Dual chunk attention: positions repeat every chunk, so that no distance is longer than in training."""

from pcbench.methods.dual_chunk.method import DualChunk, all_of
from pcbench.methods.dual_chunk.plan import FreshPlan, StoredPlan

__all__ = ["DualChunk", "FreshPlan", "StoredPlan", "all_of"]
