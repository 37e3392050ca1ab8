"""How far results are from the truth: pure comparisons of tensors.

An infinity or a NaN must be where the truth has it, with the same sign; anything else is an infinite error. Equal to
a truth that is not finite is not the same as right: a comparison says of its truth whether it is `finite`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pcbench.measure.tolerances import LSE_FLOOR, MASS, MASS_SHARE, OUT_FLOOR

__all__ = ["Comparison", "compare_exact", "compare_lse", "compare_mass", "compare_out", "row_error", "worst"]


@dataclass(frozen=True)
class Comparison:
    """An error, in the unit of its bound, and the largest error that passes.

    Args:
        err, bound: these.
        finite: the truth holds no NaN, and no infinity where no arguments that are finite give one.
    """

    err: float
    bound: float
    finite: bool = True

    @property
    def ok(self) -> bool:
        """A NaN error does not pass."""
        return self.err <= self.bound

    @property
    def ratio(self) -> float:
        """Error over bound; 0 where both are 0."""
        if self.err == 0:
            return 0.0
        return self.err / self.bound if self.bound else float("inf")

    def joined(self, other: "Comparison") -> "Comparison":
        """One comparison of two samples; a NaN error stays."""
        err = self.err if self.err != self.err else max(other.err, self.err)
        return Comparison(err, max(self.bound, other.bound), self.finite and other.finite)


def compare_out(out: Tensor, truth: Tensor, own: Tensor, dtype: torch.dtype) -> Comparison:
    """Outputs of attention, by the row that is furthest off.

    Args:
        out: [..., D].
        truth: [..., D] float64.
        own: [..., D], the reference on the same inputs in their dtype.
        dtype: of the inputs.
    """
    bound = _bound(OUT_FLOOR[dtype], row_error(own, truth))
    return Comparison(row_error(out, truth), bound, bool(truth.isfinite().all()))


def row_error(out: Tensor, truth: Tensor) -> float:
    """Largest norm of a row's error over the norm of that row of the truth; rows are the last dimension."""
    if out.shape != truth.shape or not _same_specials(out, truth):
        return float("inf")
    if not truth.numel():
        return 0.0
    off = _finite(out - truth).norm(dim=-1)
    size = _finite(truth).norm(dim=-1)
    return float(torch.where(off == 0, 0.0, off / size).max())


def compare_lse(lse: Tensor, truth: Tensor, own: Tensor, dtype: torch.dtype) -> Comparison:
    """Log-sum-exps, by the largest difference in nats.

    Args:
        lse: [...].
        truth: [...] float64.
        own: [...], the reference on the same inputs in their dtype.
        dtype: of the inputs.
    """
    bound = _bound(LSE_FLOOR[dtype], _furthest(own, truth))
    # a row without keys has −inf, a chunk without rows +inf
    return Comparison(_furthest(lse, truth), bound, not bool(truth.isnan().any()))


def _furthest(lse: Tensor, truth: Tensor) -> float:
    if lse.shape != truth.shape or not _same_specials(lse, truth):
        return float("inf")
    return _largest(lse.double() - truth.double())


def compare_mass(mass: Tensor, truth: Tensor, rows: int) -> Comparison:
    """Masses of keys: the key that is furthest off, or the sum of a head's keys.

    Args:
        mass: [..., S], summed over `rows` rows.
        truth: [..., S] float64.
        rows: rows whose attention was summed.
    """
    finite = bool(truth.isfinite().all())
    if mass.shape != truth.shape or not _same_specials(mass, truth):
        return Comparison(float("inf"), MASS, finite)
    if not truth.numel() or not rows:
        return Comparison(_largest(mass), MASS, finite)
    off, wanted = mass.double() - truth.double(), truth.double()
    keys = _largest(off / (wanted + MASS_SHARE * rows / truth.shape[-1]))
    return Comparison(max(keys, _largest(_finite(off).sum(-1)) / rows), MASS, finite)


def compare_exact(result: Tensor, truth: Tensor) -> Comparison:
    """Results that are equal bit for bit, by the number of elements that are not; a NaN equals a NaN."""
    # an empty place has the score +inf
    finite = not bool(truth.isnan().any())
    if result.shape != truth.shape or result.dtype != truth.dtype:
        return Comparison(float("inf"), 0.0, finite)
    same = result == truth
    if result.is_floating_point():
        same |= result.isnan() & truth.isnan()
    return Comparison(float((~same).sum()), 0.0, finite)


def worst(comparisons: dict[str, Comparison]) -> Comparison:
    """The comparison with the largest error-to-bound ratio; NaN counts as the largest."""
    return max(comparisons.values(), key=lambda c: c.ratio if c.ratio == c.ratio else float("inf"))


def _bound(floor: float, own: float) -> float:
    """Twice the reference's own error; a reference that is wrong itself excuses nothing."""
    return max(floor, 2 * own) if math.isfinite(own) else floor


def _same_specials(x: Tensor, truth: Tensor) -> bool:
    """NaN and infinities are at the same places."""
    return all(bool(torch.equal(f(x), f(truth))) for f in (torch.isnan, torch.isposinf, torch.isneginf))


def _finite(x: Tensor) -> Tensor:
    return x.double().nan_to_num(0.0, 0.0, 0.0)


def _largest(x: Tensor) -> float:
    return float(_finite(x).abs().max()) if x.numel() else 0.0
