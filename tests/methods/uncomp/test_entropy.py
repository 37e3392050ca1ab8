"""Truncated matrix entropy against published values and a plain computation."""

import math

import numpy as np
import pytest
import torch

from pcbench.methods.uncomp.entropy import effective_rank, spectrum, truncated_entropy

KS = (16, 32, 64, 128)


def of_rows(power):
    """H_k of normal rows whose directions have variances i^−power."""
    rows = torch.randn(4096, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = spectrum(rows * torch.arange(1, 129, dtype=torch.float64) ** (-power / 2))
    assert float(values.sum()) == pytest.approx(1.0, abs=1e-6)
    return [float(truncated_entropy(values, k)) for k in KS]


@pytest.mark.parametrize(
    ("power", "expected"),
    [
        (0.0, (0.153, 0.295, 0.557, 0.997)),
        (1.0, (0.363, 0.496, 0.650, 0.820)),
        (2.0, (0.360, 0.401, 0.427, 0.442)),
    ],
)
def test_published_entropies(power, expected):
    assert of_rows(power) == pytest.approx(expected, abs=0.01)


def test_spectrum_is_that_of_the_released_steps():
    """Singular values of numpy, of rows with different means and lengths."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(3, 200, 16, generator=generator) * torch.linspace(0.1, 3, 16) + 5
    for one, values in zip(rows, spectrum(rows), strict=True):
        x = one.double().numpy()
        y = x - x.mean(0)
        y = y / np.linalg.norm(y, axis=1, keepdims=True)
        c = y.T @ y / len(y)
        s = np.linalg.svd(c / np.trace(c) + 1e-10 * np.eye(16), compute_uv=False)
        np.testing.assert_allclose(values.numpy(), s, rtol=1e-8)
        assert float(truncated_entropy(values, 4)) == pytest.approx(-(s[:4] * np.log(s[:4])).sum() / math.log(16))


def test_rows_that_do_not_differ_have_no_entropy():
    values = spectrum(torch.ones(10, 8))
    assert values.isfinite().all()
    assert float(truncated_entropy(values, 8)) < 1e-7


def test_renormalised_eigenvalues_sum_to_one():
    even = torch.full((128,), 1 / 128, dtype=torch.float64)
    assert float(truncated_entropy(even, 32, renormalise=True)) == pytest.approx(math.log(32) / math.log(128))
    assert float(truncated_entropy(even, 32)) == pytest.approx(0.25)
    assert float(effective_rank(even)) == pytest.approx(128)
