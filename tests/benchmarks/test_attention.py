"""Attention over chunks against torch's scaled_dot_product_attention."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from pcbench import ops, reference
from pcbench.reference.bits import unpack_bits


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("keys", [1024, 2048, 4096])
@pytest.mark.parametrize("dim", [64, 128], ids=["D64", "D128"])
def test_calibrated_attention_causal(race, dim, keys):
    q, k, v = (draw(1, 8, keys, dim) for _ in range(3))
    race(
        lambda: ops.calibrated_attention(q, k, v, scale=dim**-0.5, causal=True),
        lambda: scaled_dot_product_attention(q, k, v, is_causal=True),
        pairs=25,
    )


@pytest.mark.parametrize("mass_rows", [0, 8])
def test_calibrated_attention_of_grouped_heads(race, mass_rows):
    # a chunk of SmolLM2-135M
    q, k, v = draw(1, 9, 2068, 64), draw(1, 3, 2068, 64), draw(1, 3, 2068, 64)
    race(
        lambda: ops.calibrated_attention(q, k, v, scale=0.125, causal=True, mass_rows=mass_rows),
        lambda: scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True),
    )


@pytest.mark.parametrize("mass_rows", [8, 64])
def test_key_mass(race, mass_rows):
    q, k, lse = draw(1, 9, 2068, 64), draw(1, 3, 2068, 64), draw(1, 9, 2068)
    race(
        *(
            lambda floor=floor: floor.key_mass(q, k, lse, scale=0.125, causal=True, mass_rows=mass_rows)
            for floor in (ops, reference)
        )
    )


def test_calibrated_attention_bfloat16(race):
    q, k, v = (draw(1, 8, 1024, 64).bfloat16() for _ in range(3))
    try:
        scaled_dot_product_attention(q, k, v, is_causal=True)
    except RuntimeError as error:
        # seen where ATEN_CPU_CAPABILITY hides instructions that the CPU has
        pytest.skip(f"torch: {error}")
    race(
        lambda: ops.calibrated_attention(q, k, v, scale=0.125, causal=True),
        lambda: scaled_dot_product_attention(q, k, v, is_causal=True),
    )


def test_calibrated_attention_with_evicted_keys(race):
    q, k, v = (draw(1, 8, 1024, 64) for _ in range(3))
    bits = torch.randint(-(2**31), 2**31 - 1, (1, 8, 32), dtype=torch.int64).int()
    seen = torch.ones(1024, 1024, dtype=torch.bool).tril() & ~unpack_bits(bits, 1024)[:, :, None]
    mask = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)
    race(
        lambda: ops.calibrated_attention(q, k, v, scale=0.125, causal=True, evicted=bits),
        lambda: scaled_dot_product_attention(q, k, v, attn_mask=mask),
    )
