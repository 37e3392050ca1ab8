"""Compiled token selection; the documentation is in `pcbench.reference`."""

from torch import Tensor

from pcbench.ops.backends import launch
from pcbench.reference.checks import Arguments
from pcbench.reference.selection import check_select_tokens

__all__ = ["select_tokens"]

# rows that a device kernel can rank at once; one limit for all backends
LARGEST_CAPACITY = 8192


def select_tokens(
    mass: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    capacity: int,
    budgets: Tensor | None = None,
    key_lengths: Tensor | None = None,
    pool: int = 7,
    sink: int = 0,
    recent: int = 0,
    protect: Tensor | None = None,
    evicted: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compiled `pcbench.reference.select_tokens`."""

    def check() -> None:
        check_select_tokens(mass, k, v, capacity, budgets, key_lengths, pool, sink, recent, protect, evicted)
        if capacity > LARGEST_CAPACITY:
            raise Arguments("select_tokens").fail(f"capacity must be in 1..{LARGEST_CAPACITY}", capacity)

    k2, v2, index, lengths = launch(
        "select_tokens",
        check,
        (k, mass, v),
        mass,
        k,
        v,
        capacity=capacity,
        budgets=budgets,
        key_lengths=key_lengths,
        pool=pool,
        sink=sink,
        recent=recent,
        protect=protect,
        evicted=evicted,
    )
    return k2, v2, index, lengths
