"""Truncated matrix entropy: how many directions the rows of a matrix spread over.

Source: UNComp, arXiv:2410.03090, and its released code (commit b3e9f7b).
"""

import math

import torch
from torch import Tensor

__all__ = ["effective_rank", "spectrum", "truncated_entropy"]

# what the released code adds to every eigenvalue
RIDGE = 1e-10


def spectrum(rows: Tensor) -> Tensor:
    """Eigenvalues of the covariance of rows that were centred and scaled to unit length.

    Args:
        rows: [..., N, D], as the queries of a head.

    Returns:
        [..., D] float64, descending, their sum 1 up to the ridge; all of them the ridge where no row differs.
    """
    rows = rows.double()
    unit = torch.nn.functional.normalize(rows - rows.mean(-2, keepdim=True), dim=-1)
    covariance = unit.mT @ unit
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    ridge = RIDGE * torch.eye(rows.shape[-1], dtype=rows.dtype, device=rows.device)
    values = torch.linalg.eigvalsh(covariance / trace.clamp_min(torch.finfo(rows.dtype).tiny) + ridge)
    return values.flip(-1).clamp_min(0.0)


def truncated_entropy(values: Tensor, k: int, *, renormalise: bool = False) -> Tensor:
    """H_k = −Σ s·ln s / ln D over the k largest eigenvalues.

    Without renormalisation it is no measure of spread: rows of no direction have 0.295 at D = 128 and k = 32, those
    of a spectrum 1/i 0.496.

    Args:
        values: [..., D], a `spectrum`.
        k: eigenvalues that count; more than D are D.
        renormalise: those that count sum to 1, as the authors have it in a later paper; the released tables do not.

    Returns:
        [...] of the same dtype, 0…1.
    """
    kept = values[..., :k]
    if renormalise:
        kept = kept / kept.sum(-1, keepdim=True)
    return -torch.special.xlogy(kept, kept).sum(-1) / math.log(values.shape[-1])


def effective_rank(values: Tensor) -> Tensor:
    """exp(−Σ s·ln s) of a `spectrum` [..., D]: [...], 1…D."""
    return torch.exp(-torch.special.xlogy(values, values).sum(-1))
