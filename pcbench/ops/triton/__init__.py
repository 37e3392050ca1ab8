"""The backend `triton`: kernels for GPUs and head dims without compiled ones, named as in `pcbench.reference`.

What costs no quadratic memory in PyTorch is the reference's own function. Importing this imports Triton.
"""

from pcbench.ops.triton.launches import (
    cached_attention,
    calibrated_attention,
    decode_attention,
    key_mass,
    merge_states,
    quantized_attention,
    window_mass,
)
from pcbench.reference import chunk_select, chunk_topk, query_nll_update, select_tokens

__all__ = [
    "cached_attention",
    "calibrated_attention",
    "chunk_select",
    "chunk_topk",
    "decode_attention",
    "key_mass",
    "merge_states",
    "quantized_attention",
    "query_nll_update",
    "select_tokens",
    "window_mass",
]
