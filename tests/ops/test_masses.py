"""The mass of keys under a log-sum-exp that is not that of their scores."""

import pytest
import torch

from pcbench import ops, reference
from tests.ops.calls import decode, window, with_dtype

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_mass_of_scores_far_above_the_log_sum_exp_is_infinite(dtype, isa):
    """float32 ends at e^88.7 = 2^128, and its exponent of eight bits begins anew at 2^129."""
    for lse in (80.0, -60.0, -85.0, -95.0, -120.0, -180.0, -1000.0, -1e9):
        arguments = with_dtype(window(lse=torch.full((1, 4, 2), lse)), dtype)
        found, wanted = (backend.window_mass(**arguments) for backend in (ops.backend("cpu"), reference))
        assert wanted.any()
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_mass_of_a_query_that_is_not_a_number_is_none(dtype, isa):
    """The heads of one kv-head, and no others."""
    arguments = with_dtype(decode(), dtype)
    arguments["q"][0, 1, 0, 3] = torch.nan
    for backend in (ops.backend("cpu"), reference):
        mass = backend.decode_attention(**arguments)[2]
        assert mass[0, 0].isnan().all()
        assert mass[0, 1].isfinite().all()
