"""Formats of quantised keys and values, and the bytes that they take."""

from typing import Literal

__all__ = ["KV_BLOCK", "KVDtype", "code_bytes"]

# of stored keys and values; their layout is in pcbench.reference.quantized
KVDtype = Literal["int8", "int4", "fp8"]
# rows of a store whose keys share a channel's scale
KV_BLOCK = 64

BITS = {"int8": 8, "int4": 4, "fp8": 8}
# bfloat16: a scale, of int4 a zero too
BESIDE = {"int8": 2, "int4": 4, "fp8": 2}


def code_bytes(kv_dtype: KVDtype, rows: int, dim: int) -> int:
    """Bytes of the keys and values of `rows` rows with their scales.

    Args:
        kv_dtype: their format.
        rows: a multiple of KV_BLOCK.
        dim: D.
    """
    codes = 2 * rows * dim * BITS[kv_dtype] // 8
    return codes + BESIDE[kv_dtype] * (rows + rows // KV_BLOCK * dim)
