"""Prefills that compute a part of the attention and keep every key and value."""

from pcbench.methods.sparse_prefill.xattention import XAttention

__all__ = ["XAttention"]
