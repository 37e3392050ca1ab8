"""float16 on a CPU: widened exactly, multiplied as float32, rounded once."""

import pytest
import torch

from pcbench import ops


def test_every_float16_is_widened_exactly(isa):
    every = torch.arange(-(2**15), 2**15).short().view(torch.float16)
    row_max, row_sum, row_target = (torch.zeros(len(every)) for _ in range(3))
    targets = torch.zeros(len(every), dtype=torch.int32)
    ops.backend("cpu").query_nll_update(every[:, None], targets, 0, row_max, row_sum, row_target)
    torch.testing.assert_close(row_target, every.float(), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(row_target.signbit(), every.signbit())


@pytest.mark.parametrize("dim", [64, 96, 128])
def test_attention_is_that_of_float32_rounded_once(dim, isa):
    q, k = (torch.randn(1, heads, 70, dim).half() for heads in (6, 2))
    # down to the denormal ones, up to infinities: the largest two are 65504 and what rounds to infinity beside it
    v = torch.randn(1, 2, 70, dim) * 2.0 ** torch.randint(-28, 15, (1, 2, 1, dim))
    v[..., -1, 3] = torch.inf
    v[..., 5] = 65504
    v = v.half()
    found = ops.backend("cpu").calibrated_attention(q, k, v, scale=0.4, causal=True, mass_rows=8)
    wide = ops.backend("cpu").calibrated_attention(q.float(), k.float(), v.float(), scale=0.4, causal=True, mass_rows=8)
    assert found[0].dtype == torch.float16
    assert (found[0][found[0] != 0].abs() < 2.0**-14).any()
    assert found[0].isinf().any()
    torch.testing.assert_close(found[0], wide[0].half(), rtol=0, atol=0, equal_nan=True)
    assert all(map(torch.equal, found[1:], wide[1:]))
