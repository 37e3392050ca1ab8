"""The ops, compiled: each call runs on the backend of its tensors' device, or fails and says why.

The functions have the names, signatures, errors and results of `pcbench.reference`; their docstrings are there.
"""

import sys

from pcbench.ops.attention import (
    cached_attention,
    calibrated_attention,
    decode_attention,
    key_mass,
    merge_states,
    quantized_attention,
    window_mass,
)
from pcbench.ops.backends import BackendOps, automatic_backend, compiled_backend, make_backend
from pcbench.ops.chunks import chunk_select, chunk_topk, query_nll_update
from pcbench.ops.dual_chunk import dual_chunk_attention
from pcbench.ops.libraries import why_not
from pcbench.ops.providers import Attending
from pcbench.ops.selection import select_tokens

__all__ = [
    "automatic_backend",
    "backend",
    "cached_attention",
    "calibrated_attention",
    "chunk_select",
    "chunk_topk",
    "compiled_backend",
    "decode_attention",
    "dual_chunk_attention",
    "key_mass",
    "merge_states",
    "quantized_attention",
    "query_nll_update",
    "select_tokens",
    "why_not",
    "window_mass",
]


def backend(name: str, attention: str | None = None) -> BackendOps | Attending:
    """The ops of one backend as an object.

    Args:
        name: reference, cpu, cuda, hip or triton.
        attention: what computes the attention of chunks, of `pcbench.config.Attention`; None is the backend alone. The
            reference is pure PyTorch whatever is said.

    Raises:
        ConfigError: there is no such backend, or no such attention.
        BackendUnavailable: this machine or build cannot run it; the message is `why_not`'s.
    """
    ops = make_backend(name, sys.modules[__name__])
    return ops if attention is None or name == "reference" else Attending(ops, attention)
