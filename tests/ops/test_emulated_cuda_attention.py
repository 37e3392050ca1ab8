"""The tensor-core attention of ext/cuda on emulated warps: against the float64 reference, and counted."""

from functools import partial

import pytest
import torch
from emulated import ORDERS, emulated_ops, everywhere, pairwise

from pcbench.measure.kernels import attention_cases
from pcbench.measure.kernels.cases import CASES, Case, check_case

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
# rows of a block, keys of a tile, warps of a block
ROWS, KEYS, WARPS = 128, 64, 4

# rows and keys, lengths of the two batch rows where there are two
SIZES = {
    "no keys": (3, 0, None),
    "one": (1, 1, None),
    "tile - 1": (63, 63, None),
    "tile": (64, 64, None),
    "tile + 1": (65, 65, None),
    "block + 1": (129, 129, None),
    "more keys than rows": (40, 333, None),
    "more rows than keys": (150, 90, None),
    "unequal": (70, 140, ([70, 9], [140, 31])),
    "an empty chunk": (70, 140, ([70, 70], [0, 64])),
    "rows without keys": (40, 60, ([40, 0], [7, 60])),
}
CALIBRATED = {
    "size": list(SIZES),
    "dim": [64, 96, 128],
    "dtype": list(HALVES),
    "group": [1, 4, 7, 8],
    "causal": [True, False],
    "evicted": [None, 0.0, 0.4, 1.0],
    "evicted_by": ["kv-head", "query head"],
    "incoming": [False, True],
    "sliced": [False, True],
    "sharp": [1.0, 32.0],
    "order": list(ORDERS),
}
STORES = {
    "empty": [[0, 0], [0, 0]],
    "one": [[1, 0], [0, 1]],
    "tile - 1": [[63, 31], [5, 0]],
    "tile": [[64, 32], [64, 64]],
    "tile + 1": [[65, 33], [1, 127]],
    "many tiles": [[700, 40], [77, 500]],
}
CACHED = {
    "store": list(STORES),
    "dim": [64, 96, 128],
    "dtype": list(HALVES),
    "group": [1, 4, 7, 8],
    "rows": [1, 2, 40],
    "causal_last": [True, False],
    "evicted": [None, 0.4, 1.0],
    "evicted_by": ["kv-head", "query head"],
    "slots": [[[0, 1], [1, -1]], [[1, 0], [-1, -1]]],
    "shared_keys": [False, True],
    "sliced": [False, True],
    "order": list(ORDERS),
}


def ids(row):
    return "-".join(str(x) for x in row.values())


def check(case, row, kernel):
    ops = emulated_ops("cuda")
    ops.reset()
    with ops.order(row["order"], seed=5):
        found = check_case(case, ops, "cpu", HALVES[row["dtype"]])
    for result, comparison in found.items():
        assert comparison.ok, f"{result}: {comparison}"
    counts = ops.counts()
    assert sum(n for name, n in counts.items() if name.startswith(f"blocks of pcbench::device::{kernel}")) > 0


def check_calibrated(row):
    rows, keys, lengths = SIZES[row["size"]]
    kv_heads = 2 if row["group"] == 1 else 1
    heads = kv_heads * row["group"]
    make = partial(
        attention_cases.calibrated,
        batch=2 if lengths else 1,
        heads=heads,
        kv_heads=kv_heads,
        rows=rows,
        keys=keys,
        dim=row["dim"],
        causal=row["causal"],
        mass_rows=0,
        query_lengths=lengths[0] if lengths else None,
        key_lengths=[[n] * kv_heads for n in lengths[1]] if lengths else None,
        evicted=row["evicted"],
        evicted_heads=heads if row["evicted_by"] == "query head" else kv_heads,
        incoming=row["incoming"],
        sliced=row["sliced"],
        sharp=row["sharp"],
    )
    check(Case("calibrated_attention", ids(row), make), row, "calibrated_tiles")


@pytest.mark.parametrize("row", pairwise(**CALIBRATED), ids=ids)
def test_calibrated_attention_equals_the_reference(row):
    check_calibrated(row)


@pytest.mark.slow
@pytest.mark.parametrize("group", CALIBRATED["group"])
@pytest.mark.parametrize("dim", CALIBRATED["dim"])
@pytest.mark.parametrize("size", SIZES)
def test_calibrated_attention_equals_the_reference_everywhere(size, dim, group):
    for row in everywhere(CALIBRATED, size=size, dim=dim, group=group):
        check_calibrated(row)


def check_cached(row):
    heads = 2 * row["group"]
    make = partial(
        attention_cases.cached,
        heads=heads,
        rows=row["rows"],
        lengths=STORES[row["store"]],
        slots=row["slots"],
        dim=row["dim"],
        causal_last=row["causal_last"],
        evicted=row["evicted"],
        evicted_heads=heads if row["evicted_by"] == "query head" else 2,
        sliced=row["sliced"],
        shared_keys=row["shared_keys"],
    )
    kernel = "cached_few_rows" if row["rows"] * row["group"] <= 16 else "cached_many_rows"
    check(Case("cached_attention", ids(row), make), row, kernel)


@pytest.mark.parametrize("row", pairwise(**CACHED), ids=ids)
def test_cached_attention_equals_the_reference(row):
    check_cached(row)


@pytest.mark.slow
@pytest.mark.parametrize("group", CACHED["group"])
@pytest.mark.parametrize("dim", CACHED["dim"])
@pytest.mark.parametrize("store", STORES)
def test_cached_attention_equals_the_reference_everywhere(store, dim, group):
    for row in everywhere(CACHED, store=store, dim=dim, group=group):
        check_cached(row)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("case", [case for case in CASES if "attention sink" in case.name], ids=str)
def test_small_weights_of_many_keys_count(case, dtype):
    kernel = "calibrated_tiles" if case.op == "calibrated_attention" else "cached_few_rows"
    check(case, {"order": "forward", "dtype": dtype}, kernel)


DECODED = {
    "store": list(STORES),
    "dim": [64, 96, 128],
    "dtype": list(HALVES),
    # beyond 16 heads of a group the largest divisor of the group that is not
    "group": [1, 3, 4, 8, 17, 20],
    "longest": [700, 750],
    "sliced": [False, True],
    "shared_keys": [False, True],
    "order": list(ORDERS),
}


@pytest.mark.parametrize("row", pairwise(**DECODED), ids=ids)
def test_decode_attention_equals_the_reference(row):
    shape = {name: row[name] for name in ("dim", "longest", "sliced", "shared_keys")}
    make = partial(attention_cases.decode, heads=2 * row["group"], lengths=STORES[row["store"]], **shape)
    check(Case("decode_attention", ids(row), make), row, "decode_few_rows")


def test_evicted_tiles_beyond_those_in_shared_memory_are_found():
    make = partial(attention_cases.calibrated, heads=1, kv_heads=1, rows=1, keys=513 * KEYS, mass_rows=0, evicted=0.5)
    check(
        Case("calibrated_attention", "many words", make), {"order": "forward", "dtype": "bfloat16"}, "calibrated_tiles"
    )


# eight blocks share the tiles of the emulator's multiprocessors
@pytest.mark.parametrize(("rows", "kernel"), [(1, "cached_few_rows"), (17, "cached_many_rows")])
def test_more_tiles_than_are_described_at_a_time_are_found(rows, kernel):
    make = partial(attention_cases.cached, heads=1, rows=rows, lengths=[[8 * 130 * KEYS], [40]], slots=[[0, 1]])
    check(Case("cached_attention", "many tiles", make), {"order": "forward", "dtype": "bfloat16"}, kernel)


def inputs(heads, kv_heads, rows, keys, dim):
    return (torch.randn(1, n, m, dim).bfloat16() for n, m in ((heads, rows), (kv_heads, keys), (kv_heads, keys)))


def counts_of(op, *arguments, **options):
    ops = emulated_ops("cuda")
    ops.reset()
    getattr(ops, op)(*arguments, scale=0.1, **options)
    return ops.counts()


# a tile of 128 rows and 64 keys: an mma takes 16 rows, 8 columns and 16 in depth, an ldmatrix 16 by 16, a copy 8
@pytest.mark.parametrize("evicted", [False, True])
@pytest.mark.parametrize("dim", [64, 96, 128])
def test_a_tile_of_calibrated_attention_costs_what_is_planned(dim, evicted):
    tiles, blocks = 3, 2
    q, k, v = inputs(1, 1, blocks * ROWS, tiles * KEYS, dim)
    bits = torch.ones(1, 1, tiles * 2, dtype=torch.int32) if evicted else None
    counts = counts_of("calibrated_attention", q, k, v, causal=False, evicted=bits)
    warp_tiles = blocks * tiles * WARPS
    assert counts["mma_m16n8k16"] == warp_tiles * 2 * (2 * KEYS // 8 * dim // 16)
    # a warp reads all keys of a tile; its 32 rows stay in registers where they fit
    queries = 2 * dim // 16 * (1 if dim == 64 else tiles) * blocks * WARPS
    assert counts["ldmatrix_x4"] == warp_tiles * KEYS // 16 * dim // 16 + queries
    assert counts["ldmatrix_x4_trans"] == warp_tiles * KEYS // 16 * dim // 16
    assert counts["cp_async16"] == blocks * (ROWS + tiles * 2 * KEYS) * dim // 8
    assert counts["bank conflicts"] == 0


def test_causal_attention_skips_tiles_that_no_row_sees():
    q, k, v = inputs(1, 1, 4 * ROWS, 4 * ROWS, 64)
    counts = counts_of("calibrated_attention", q, k, v, causal=True)
    assert counts["mma_m16n8k16"] == (2 + 4 + 6 + 8) * WARPS * 128


def test_heads_of_a_group_share_a_block():
    q, k, v = inputs(4, 1, 32, KEYS, 128)
    counts = counts_of("calibrated_attention", q, k, v, causal=False)
    assert counts["blocks"] == 1
    assert counts["cp_async16"] == (ROWS + 2 * KEYS) * 128 // 8


@pytest.mark.parametrize("dim", [64, 96, 128])
def test_decoding_reads_each_key_once_for_a_group(dim):
    tiles = 5
    q, k, v = inputs(8, 1, 1, tiles * KEYS, dim)
    store = [torch.tensor(x, dtype=torch.int32) for x in ([[0]], [[tiles * KEYS]], [[0]])]
    counts = counts_of("cached_attention", q, k[0, 0], v[0, 0], *store, causal_last=False)
    assert counts["cp_async16"] == tiles * 2 * KEYS * dim // 8
    one = counts_of("decode_attention", q, k[0, 0], v[0, 0], *store[:2], longest=tiles * KEYS)
    copies = ("cp_async16", "mma_m16n8k16", "ldmatrix_x4", "ldmatrix_x4_trans", "bank conflicts")
    assert [one[name] for name in copies] == [counts[name] for name in copies]
    # 16 rows of all keys, twice
    assert counts["mma_m16n8k16"] == tiles * 2 * KEYS // 8 * dim // 16
    assert counts["ldmatrix_x4"] == counts["ldmatrix_x4_trans"] == tiles * KEYS // 16 * dim // 16
    assert counts["bank conflicts"] == 0


# eviction bits of 16 heads are described for 64 tiles at a time, those of 17 heads are not shared
@pytest.mark.parametrize(("group", "rows"), [(8, 2), (8, 5), (16, 1), (16, 3), (17, 1)])
def test_heads_with_bits_of_their_own_share_their_keys(group, rows):
    keys, blocks = (70 if group == 16 else 3) * KEYS, 8
    make = partial(
        attention_cases.cached,
        heads=group,
        rows=rows,
        lengths=[[blocks * keys]],
        slots=[[0]],
        evicted=0.4,
        causal_last=False,
    )
    counts = []
    for evicted_heads in (1, group):
        case = Case("cached_attention", "own bits", partial(make, evicted_heads=evicted_heads))
        packed = rows * (1 if evicted_heads == 17 else group)
        kernel = "cached_few_rows" if packed <= 16 else "cached_many_rows"
        check(case, {"order": "forward", "dtype": "bfloat16"}, kernel)
        found = emulated_ops("cuda").counts()
        counts.append([found[name] for name in ("cp_async16", "mma_m16n8k16")])
    assert (counts[0] == counts[1]) == (group != 17)


def test_three_runs_are_equal_bit_for_bit():
    ops = emulated_ops("cuda")
    q, k, v = inputs(4, 1, 9, 1000, 64)
    store = [torch.tensor(x, dtype=torch.int32) for x in ([[0], [700]], [[700], [300]], [[0, 1]])]
    found = []
    for order in ORDERS:
        with ops.order(order, seed=3):
            found.append(ops.cached_attention(q, k[0, 0], v[0, 0], *store, scale=0.1, causal_last=True))
    assert all(torch.equal(x, y) for again in found[1:] for x, y in zip(found[0], again, strict=True))
