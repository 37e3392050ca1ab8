"""What a case's comparison lets through and what it catches, with the matmul of a GPU in the place of the CPU's."""

from functools import partial

import pytest
import torch

from pcbench import ops, reference
from pcbench.measure.kernels.cases import Case, check_case
from pcbench.measure.kernels.chunk_cases import chunk_select
from pcbench.measure.tolerances import LSE_FLOOR

# the hidden size of the suite's shape; fewer rows, chunks and vocabulary tiles
HIDDEN, VOCAB, TILE, ROWS = 4096, 300, 100, [5, 5, 5]
# what a tensor core adds at a time
TERMS = 16


def cut(x, exponent):
    """x without the bits below a float32 of that exponent."""
    unit = torch.ldexp(torch.ones_like(x), exponent - 24)
    return (x / unit).trunc() * unit


def tensor_core_mm(a, b, *, out):
    """a @ b as tensor cores are published to add: 16 exact products and the sum so far, aligned to the largest of them,
    each cut to 24 bits, and the new sum cut again. Fasi et al., PeerJ Computer Science 7:e330; arXiv:2512.07004."""
    total = torch.zeros(a.shape[0], b.shape[1], dtype=torch.float64)
    for k in range(0, a.shape[1], TERMS):
        products = a[:, None, k : k + TERMS].double() * b.T[None, :, k : k + TERMS].double()
        terms = torch.cat([products, total[..., None]], -1)
        largest = terms.abs().amax(-1, keepdim=True).frexp().exponent
        total = cut(terms, largest).sum(-1)
        total = cut(total, total.frexp().exponent)
    return out.copy_(total)


def checked(monkeypatch, backend=None, mm=tensor_core_mm):
    """The comparisons of one call over three tiles of the vocabulary."""
    if backend is None:
        assert not ops.why_not("cpu")
        backend = ops.backend("cpu")
    monkeypatch.setattr(reference.chunks, "TILE_COLUMNS", TILE)
    monkeypatch.setattr(torch, "mm", mm)
    monkeypatch.setattr(ops.chunks, "multiplies_bfloat16", lambda: False)
    case = Case("chunk_select", "scaled down", partial(chunk_select, rows=ROWS, vocab=VOCAB, hidden=HIDDEN))
    return check_case(case, backend, "cpu", torch.bfloat16)


def test_tensor_core_mm_loses_what_is_small_beside_the_sum():
    a = torch.zeros(1, 2 * TERMS)
    a[0, 0], a[0, TERMS:] = 1.0, 2.0**-25
    ones, out = torch.ones(2 * TERMS, 1), torch.empty(1, 1)
    assert tensor_core_mm(a, ones, out=out).item() == 1.0
    assert tensor_core_mm(a.flip(1), ones, out=out).item() == 1 + 2.0**-21


def test_check_case_accepts_the_sums_of_a_tensor_core(monkeypatch):
    found = checked(monkeypatch)
    assert all(x.ok for x in found.values()), found
    assert found["scores"].bound == LSE_FLOOR[torch.bfloat16] == 1e-3


class DroppedTile:
    """The second tile of the vocabulary stays 0."""

    def __init__(self):
        self.calls = 0

    def __call__(self, a, b, *, out):
        self.calls += 1
        return out.zero_() if self.calls == 2 else tensor_core_mm(a, b, out=out)


def without_the_last_terms(a, b, *, out):
    return tensor_core_mm(a[:, :-TERMS], b[:-TERMS], out=out)


@pytest.mark.parametrize("mm", [DroppedTile(), without_the_last_terms], ids=["a tile", "terms"])
def test_check_case_catches_a_matmul_that_leaves_something_out(mm, monkeypatch):
    assert not checked(monkeypatch, mm=mm)["scores"].ok


class Changed:
    """The compiled op on a changed argument."""

    def __init__(self, name, change):
        self.name, self.change = name, change

    def chunk_select(self, **inputs):
        return ops.chunk_select(**inputs | {self.name: self.change(inputs[self.name])})


def first_is_another(targets):
    targets = targets.clone()
    targets[0] = (targets[0] + 1) % VOCAB
    return targets


def first_is_ignored(segments):
    segments = segments.clone()
    segments[0] = -1
    return segments


@pytest.mark.parametrize(("name", "change"), [("targets", first_is_another), ("segments", first_is_ignored)])
def test_check_case_catches_one_wrong_row(name, change, monkeypatch):
    assert not checked(monkeypatch, backend=Changed(name, change))["scores"].ok
