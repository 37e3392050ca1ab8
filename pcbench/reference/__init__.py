"""The ops in pure PyTorch: the truth every compiled kernel is held against, and the baseline it must beat.

Letters, layouts and conventions are those of `pcbench.reference.attention` and `pcbench.reference.cached`.
"""

from pcbench.reference.attention import calibrated_attention, key_mass, merge_states
from pcbench.reference.cached import cached_attention, window_mass
from pcbench.reference.chunks import chunk_select, chunk_topk, query_nll_update
from pcbench.reference.decode import decode_attention
from pcbench.reference.dual_chunk import dual_chunk_attention
from pcbench.reference.quantized import quantized_attention
from pcbench.reference.selection import select_tokens

__all__ = [
    "cached_attention",
    "calibrated_attention",
    "chunk_select",
    "chunk_topk",
    "decode_attention",
    "dual_chunk_attention",
    "key_mass",
    "merge_states",
    "quantized_attention",
    "query_nll_update",
    "select_tokens",
    "window_mass",
]
