"""Which tokens of a chunk are kept: pooled attention mass, top-k per key/value head, gather."""

import torch
from torch import Tensor

from pcbench.reference.bits import unpack_bits
from pcbench.reference.checks import Arguments

__all__ = ["select_tokens"]


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
    """Keeps the keys with the largest pooled mass of each kv-head and gathers them, in reading order.

    The mass of the query heads of a group is summed in their order, then max-pooled over `pool` neighbouring valid
    keys. Protected keys come first, evicted ones are never kept, ties keep the lower index. NaN counts
    as −inf before pooling. A head with fewer candidates than its budget keeps them all.

    Args:
        mass: [B, H, S] or [B, Hkv, S] float32, attention each key received.
        k: [B, Hkv, S, D] float.
        v: [B, Hkv, S, D], dtype of k.
        capacity: rows of the result, ≥ 1; 1…8192 on compiled backends.
        budgets: [B, Hkv] int32, keys to keep, 0…capacity; None means capacity.
        key_lengths: [B, Hkv] int32, valid keys; None means S.
        pool: odd width of the max-pool; 1 does not pool, one beyond 2·S takes the largest of all.
        sink: protects the first keys.
        recent: protects the last valid keys.
        protect: [B, S] bool, keys that come first.
        evicted: [B, Hkv, W] int32 bits, W = ⌈S/32⌉; wins over protection.

    Returns:
        k2, v2 [B, Hkv, capacity, D], bit copies with zeros after the last kept row; index
        [B, Hkv, capacity] int32, ascending, −1 after the last; lengths [B, Hkv] int32.

    Raises:
        ShapeError: a shape, dtype or layout differs from the above, or a number is out of its range.

    Cost: reads the mass once and 2·capacity·D elements of k and v per head.
    Source: SnapKV, arXiv:2404.14469, per chunk as ParallelComp does, arXiv:2502.14317v2. Selection per
        kv-head on the group's sum is ours: the released code repeats keys and selects per query head.
    """
    check_select_tokens(mass, k, v, capacity, budgets, key_lengths, pool, sink, recent, protect, evicted)
    batch, kv_heads, keys, dim = k.shape
    j = torch.arange(keys, device=k.device)
    limit = torch.full((batch, kv_heads), keys, device=k.device) if key_lengths is None else key_lengths.long()
    valid = j < limit[..., None]
    heads = mass.unflatten(1, (kv_heads, -1)).unbind(2)
    # one by one: the order of additions is part of the rule, so that backends agree on ties
    score = sum(heads[1:], start=heads[0])
    score = score.masked_fill(~valid | score.isnan(), -torch.inf)
    # a wider pool reaches no more keys
    reach = min(pool // 2, keys)
    if reach:
        score = torch.nn.functional.max_pool1d(score, 2 * reach + 1, stride=1, padding=reach)
    first = (j < sink) | (j >= limit[..., None] - recent)
    if protect is not None:
        first = first | protect[:, None]
    candidate = valid if evicted is None else valid & ~unpack_bits(evicted, keys)
    score = score.masked_fill(first, torch.inf)
    ranked = score.argsort(dim=-1, descending=True, stable=True)
    # candidates first, each in the order of its score
    ranked = ranked.gather(-1, (~candidate).int().gather(-1, ranked).argsort(dim=-1, stable=True))
    budget = torch.full_like(limit, capacity) if budgets is None else budgets.long().clamp(0, capacity)
    lengths = torch.minimum(candidate.sum(-1), budget)
    ranked = torch.nn.functional.pad(ranked[..., :capacity], (0, max(0, capacity - keys)), value=keys)
    rank = torch.arange(capacity, device=k.device)
    index = torch.where(rank < lengths[..., None], ranked, keys).sort(-1).values
    kept = index < keys
    rows = index.clamp_max(max(0, keys - 1))[..., None].expand(-1, -1, -1, dim)
    if not keys:
        k, v = (x.new_zeros((batch, kv_heads, 1, dim)) for x in (k, v))
    k2, v2 = (x.gather(2, rows).masked_fill(~kept[..., None], 0.0) for x in (k, v))
    return k2, v2, torch.where(kept, index, -1).int(), lengths.int()


def check_select_tokens(
    mass: Tensor,
    k: Tensor,
    v: Tensor,
    capacity: int,
    budgets: Tensor | None,
    key_lengths: Tensor | None,
    pool: int,
    sink: int,
    recent: int,
    protect: Tensor | None,
    evicted: Tensor | None,
) -> None:
    a = Arguments("select_tokens")
    a.floats("k", k, "B Hkv S D")
    a.floats("v", v, "B Hkv S D", like=k)
    a.state("mass", mass, "B H S")
    a.grouped()
    a.number("capacity", capacity, lambda n: n >= 1, "≥ 1")
    a.number("pool", pool, lambda n: n >= 1 and n % 2 == 1, "odd and ≥ 1")
    a.number("sink", sink, lambda n: n >= 0, "≥ 0")
    a.number("recent", recent, lambda n: n >= 0, "≥ 0")
    a.ints("budgets", budgets, "B Hkv")
    a.ints("key_lengths", key_lengths, "B Hkv")
    if protect is not None:
        a.tensor("protect", protect, "B S", (torch.bool,))
    a.sizes["W"] = (k.shape[2] + 31) // 32
    a.ints("evicted", evicted, "B Hkv W")
