"""Quantised keys and values: how far codes are from what they stand for, and attention over them."""

import pytest
import torch

from pcbench.reference import cached_attention, quantized_attention
from pcbench.reference.quantized import dequantize_keys, dequantize_values, quantize_keys, quantize_values

FORMATS = ("int8", "int4", "fp8")
ROWS, DIM = 192, 64


def keys_like_a_model():
    """Channels of different sizes far from 0, one that is constant and one of zeros."""
    x = torch.randn(2, ROWS, DIM, generator=torch.Generator().manual_seed(3))
    x = x * torch.logspace(-4, 2, DIM) + torch.linspace(-20, 20, DIM)
    x[..., 5], x[..., 6] = 3.7, 0.0
    return x


def error_of(codes, x, found):
    """Largest error in steps: of integers a scale, of fp8 the spacing of its numbers at this size."""
    scales = codes.scales.float()
    scales = scales.repeat_interleave(64, -2) if scales.dim() == x.dim() else scales[..., None]
    off = (found - x).abs()
    if codes.codes.dtype == torch.float8_e4m3fn:
        steps = (x / scales).nan_to_num().abs().log2().floor().clamp_min(-6)
        scales = scales * torch.exp2(steps - 3)
    return float(torch.where(off == 0, 0.0, off / scales).max())


@pytest.mark.parametrize("kv_dtype", FORMATS)
def test_an_element_is_off_by_half_a_step_at_most(kv_dtype):
    x = keys_like_a_model()
    keys, values = quantize_keys(x, kv_dtype, torch.full((2,), ROWS)), quantize_values(x, kv_dtype)
    assert keys.codes.shape == values.codes.shape == (2, ROWS, DIM // 2 if kv_dtype == "int4" else DIM)
    assert keys.scales.shape == (2, 3, DIM)
    assert values.scales.shape == (2, ROWS)
    for codes, decode in ((keys, dequantize_keys), (values, dequantize_values)):
        found = decode(codes.codes, codes.scales, codes.zeros, torch.float64).float()
        # the scale of the largest element is rounded, to 2^-9 of it
        assert error_of(codes, x, found) <= 0.5 + {"int8": 0.26, "int4": 0.05, "fp8": 0.1}[kv_dtype]


@pytest.mark.parametrize("kv_dtype", FORMATS)
def test_rows_that_are_not_valid_change_no_scale(kv_dtype):
    x = keys_like_a_model()
    clean = quantize_keys(x, kv_dtype, torch.tensor([100, 64]))
    x[0, 100:], x[1, 64:] = 1e6, -1e6
    codes = quantize_keys(x, kv_dtype, torch.tensor([100, 64]))
    assert torch.equal(codes.scales[0, :2], clean.scales[0, :2])
    assert torch.equal(codes.codes.view(torch.uint8)[0, :100], clean.codes.view(torch.uint8)[0, :100])
    assert torch.equal(codes.scales[1, :1], clean.scales[1, :1])


@pytest.mark.parametrize("kv_dtype", FORMATS)
def test_attention_is_that_over_the_dequantised_rows(kv_dtype):
    x = keys_like_a_model().flatten(0, 1) / 10
    keys, values = quantize_keys(x, kv_dtype, torch.tensor(len(x))), quantize_values(x.flip(0), kv_dtype)
    k = dequantize_keys(keys.codes, keys.scales, keys.zeros, torch.float32)
    v = dequantize_values(values.codes, values.scales, values.zeros, torch.float32)
    q = torch.randn(2, 4, 3, DIM, generator=torch.Generator().manual_seed(4))
    ints = {"dtype": torch.int32}
    where = (
        torch.tensor([[1, 70], [150, 200]], **ints),
        torch.tensor([[60, 33], [40, 0]], **ints),
        torch.tensor([[0, -1], [1, 0]], **ints),
    )
    evicted = torch.tensor([[[1, 2], [4, 0]], [[-1, 0], [0, 0]]], **ints)
    found = quantized_attention(
        q, keys.codes, values.codes, keys.scales, values.scales, *where,
        scale=0.125, k_zeros=keys.zeros, v_zeros=values.zeros, evicted=evicted,
    )  # fmt: skip
    wanted = cached_attention(q, k, v, *where, scale=0.125, evicted=evicted, causal_last=False)
    for ours, truth in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-5, atol=1e-6)


def test_scales_of_a_whole_block_belong_to_the_rows_of_the_store():
    """A segment that begins inside a block has two of its scales."""
    codes = torch.ones(128, DIM, dtype=torch.int8)
    scales = torch.tensor([1.0, 2.0]).bfloat16()[:, None].expand(2, DIM).contiguous()
    q, one = torch.ones(1, 1, 1, DIM), torch.tensor([[63]], dtype=torch.int32)
    _, lse = quantized_attention(
        q, codes, codes, scales, torch.ones(128).bfloat16(), one, torch.full_like(one, 2), torch.zeros_like(one),
        scale=1 / DIM,
    )  # fmt: skip
    torch.testing.assert_close(lse.flatten(), torch.tensor([1.0, 2.0]).logsumexp(0, keepdim=True))
