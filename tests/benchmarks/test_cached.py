"""Attention over a slotted cache against the reference, Dual Chunk Attention against full attention."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from pcbench import ops, reference


def store(slots, rows, dim=64, kv_heads=3):
    """A uniform pool: segment (n, h) starts at (n·Hkv + h)·rows."""
    k_rows, v_rows = (torch.randn(slots * kv_heads * rows, dim) for _ in range(2))
    starts = (torch.arange(slots * kv_heads, dtype=torch.int32) * rows).view(slots, kv_heads)
    lengths = torch.full_like(starts, rows)
    return k_rows, v_rows, starts, lengths, torch.arange(slots, dtype=torch.int32)[None]


@pytest.mark.parametrize("rows", [1, 40], ids=["decode", "query"])
@pytest.mark.parametrize("slots", [1, 4])
def test_cached_attention(race, rows, slots):
    cache = store(slots, 2068)
    q = torch.randn(1, 9, rows, 64)
    calls = (
        lambda floor=floor: floor.cached_attention(q, *cache, scale=0.125, causal_last=True)
        for floor in (ops, reference)
    )
    race(*calls)


def test_decode_attention(race):
    k_rows, v_rows, starts, lengths, _ = store(1, 8192)
    rows = (torch.randn(1, 9, 1, 64), k_rows, v_rows, starts, lengths)
    race(*(lambda floor=floor: floor.decode_attention(*rows, scale=0.125, longest=8192) for floor in (ops, reference)))


def test_window_mass(race):
    k_rows, v_rows, *where = store(4, 2068)
    q = torch.randn(1, 9, 8, 64)
    _, lse = reference.cached_attention(q, k_rows, v_rows, *where, scale=0.125, causal_last=True)
    options = {"scale": 0.125, "causal_last": True, "longest": 2068}
    race(*(lambda floor=floor: floor.window_mass(q, lse, k_rows, *where, **options) for floor in (ops, reference)))


@pytest.mark.parametrize("rows", [1, 8192], ids=["decode", "prompt"])
def test_dual_chunk_attention_beside_full_attention(race, rows):
    # three chunks of SmolLM2-135M's keys, with period and clip of the released code for 4096 trained positions
    q, k, v = torch.randn(1, 9, rows, 64), torch.randn(1, 3, 8192, 64), torch.randn(1, 3, 8192, 64)
    starts = torch.arange(3, dtype=torch.int32)[None] * 8192
    turns = torch.randn(3073, 64)
    rows_of = (k.view(-1, 64), v.view(-1, 64), starts, torch.full_like(starts, 8192))
    race(
        lambda: ops.dual_chunk_attention(q, *rows_of, turns, scale=0.125, period=2560),
        lambda: scaled_dot_product_attention(q, k, v, is_causal=rows > 1, enable_gqa=True),
        pairs=5,
    )
