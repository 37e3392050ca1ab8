"""The matrix-core attention of ext/hip on emulated waves of 64 lanes: against the float64 reference, and counted."""

from functools import partial

import pytest
import torch
from emulated import ORDERS, emulated_ops, everywhere, pairwise

from pcbench.measure.kernels import attention_cases
from pcbench.measure.kernels.cases import CASES, Case, check_case

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
KERNEL = "blocks of pcbench::device::calibrated_attention_mfma"
CACHED_KERNEL = "blocks of pcbench::device::cached_attention_mfma"
ARCHES = ["gfx942", "gfx90a"]
# keys of a tile, rows of a wave and of a block
KEYS, WAVE, BLOCK = 64, 32, 256

# rows and keys by query head, key lengths of the second batch row where there is one
SIZES = {
    "no keys": (3, 0, None),
    "one": (1, 1, None),
    "tile - 1": (63, 63, None),
    "tile": (64, 64, None),
    "tile + 1": (65, 65, None),
    "more keys than rows": (40, 333, None),
    "more rows than keys": (150, 90, None),
    "two blocks, six tiles": (270, 330, None),
    "unequal": (70, 140, (9, 31)),
    "an empty chunk": (70, 140, (70, 0)),
}
CALIBRATED = {
    "size": list(SIZES),
    "dim": [64, 96, 128],
    "dtype": list(HALVES),
    "group": [1, 4, 8],
    "causal": [True, False],
    "evicted": [None, 0.0, 0.4, 1.0],
    "evicted_by": ["kv-head", "query head"],
    "incoming": [False, True],
    "sliced": [False, True],
    "order": list(ORDERS),
}
STORES = {
    "empty": [[0, 0], [0, 0]],
    "one": [[1, 0], [0, 1]],
    "tile - 1": [[31, 63], [5, 0]],
    "tile": [[32, 64], [32, 32]],
    "tile + 1": [[33, 65], [1, 33]],
    "many tiles": [[600, 40], [77, 500]],
}
CACHED = {
    "store": list(STORES),
    "dim": [64, 96, 128],
    "dtype": list(HALVES),
    "group": [1, 4, 8],
    "rows": [1, 9, 40],
    "causal_last": [True, False],
    "evicted": [None, 0.4, 1.0],
    "evicted_by": ["kv-head", "query head"],
    "slots": [[[0, 1], [1, -1]], [[1, 0], [-1, -1]]],
    "shared_keys": [False, True],
    "order": list(ORDERS),
}


def check(case, row, kernel):
    ops = emulated_ops("hip")
    ops.reset()
    with ops.order(row["order"], seed=5), ops.matrix_cores(row.get("arch", "gfx942")):
        found = check_case(case, ops, "cpu", HALVES[row["dtype"]])
    for result, comparison in found.items():
        assert comparison.ok, f"{result}: {comparison}"
    assert sum(n for name, n in ops.counts().items() if name.startswith(kernel)) > 0


def ids(row):
    return "-".join(str(x) for x in row.values())


def check_calibrated(row):
    rows, keys, second = SIZES[row["size"]]
    kv_heads = 1 if row["group"] > 1 else 2
    make = partial(
        attention_cases.calibrated,
        batch=2 if second else 1,
        heads=kv_heads * row["group"],
        kv_heads=kv_heads,
        rows=rows,
        keys=keys,
        dim=row["dim"],
        causal=row["causal"],
        mass_rows=0,
        query_lengths=[rows, second[0]] if second else None,
        key_lengths=[[keys] * kv_heads, [second[1]] * kv_heads] if second else None,
        evicted=row["evicted"],
        evicted_heads=kv_heads * (row["group"] if row["evicted_by"] == "query head" else 1),
        incoming=row["incoming"],
        sliced=row["sliced"],
    )
    check(Case("calibrated_attention", ids(row), make), row, KERNEL)


@pytest.mark.parametrize("row", pairwise(**CALIBRATED, arch=ARCHES), ids=ids)
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
    make = partial(
        attention_cases.cached,
        heads=2 * row["group"],
        rows=row["rows"],
        lengths=STORES[row["store"]],
        slots=row["slots"],
        dim=row["dim"],
        causal_last=row["causal_last"],
        evicted=row["evicted"],
        evicted_heads=2 * (row["group"] if row["evicted_by"] == "query head" else 1),
        shared_keys=row["shared_keys"],
    )
    check(Case("cached_attention", ids(row), make), row, CACHED_KERNEL)


@pytest.mark.parametrize("row", pairwise(**CACHED, arch=ARCHES), ids=ids)
def test_cached_attention_equals_the_reference(row):
    check_cached(row)


DECODED = {
    "store": list(STORES),
    "dim": [64, 96, 128],
    "dtype": list(HALVES),
    "group": [1, 3, 4, 8, 40],
    "longest": [600, 650],
    "shared_keys": [False, True],
    "order": list(ORDERS),
    "arch": ARCHES,
}


@pytest.mark.parametrize("row", pairwise(**DECODED), ids=ids)
def test_decode_attention_equals_the_reference(row):
    shape = {name: row[name] for name in ("dim", "longest", "shared_keys")}
    make = partial(attention_cases.decode, heads=2 * row["group"], lengths=STORES[row["store"]], **shape)
    check(Case("decode_attention", ids(row), make), row, "blocks of pcbench::device::decode_attention_mfma")


@pytest.mark.slow
@pytest.mark.parametrize("group", CACHED["group"])
@pytest.mark.parametrize("dim", CACHED["dim"])
@pytest.mark.parametrize("store", STORES)
def test_cached_attention_equals_the_reference_everywhere(store, dim, group):
    for row in everywhere(CACHED, store=store, dim=dim, group=group):
        check_cached(row)


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("case", [case for case in CASES if "attention sink" in case.name], ids=str)
def test_small_weights_of_many_keys_count(case, dtype, arch):
    row = {"order": "forward", "dtype": dtype, "arch": arch}
    check(case, row, KERNEL if case.op == "calibrated_attention" else CACHED_KERNEL)


def test_incoming_state_keeps_the_small_weights_of_what_follows():
    # all new keys are 18 nats below what came before
    def make(draw):
        inputs = attention_cases.calibrated(draw, rows=2, keys=4096, causal=False, mass_rows=0, incoming=True)
        inputs["k"].zero_()
        inputs["lse_in"].fill_(18.0)
        inputs["out_in"].fill_(0.001)
        inputs["v"].mul_(0.1).add_(1.0)
        return inputs

    row = {"order": "forward", "dtype": "float16", "arch": "gfx90a"}
    check(Case("calibrated_attention", "incoming sink", make), row, KERNEL)


@pytest.mark.parametrize(("arch", "seen"), [("gfx942", 2.0), ("gfx90a", 0.0)])
def test_matrix_cores_take_subnormal_numbers_as_their_architecture_does(arch, seen):
    ops = emulated_ops("hip")
    q, k = torch.full((1, 1, 1, 64), 2.0**-15).half(), torch.full((1, 1, 1, 64), 2.0**10).half()
    with ops.matrix_cores(arch):
        _, lse, _ = ops.calibrated_attention(q, k, k, scale=1.0, causal=False)
    assert lse.item() == pytest.approx(seen)


def inputs(batch, heads, kv_heads, rows, keys, dim, dtype=torch.bfloat16):
    torch.manual_seed(3)
    shapes = (batch, heads, rows, dim), (batch, kv_heads, keys, dim), (batch, kv_heads, keys, dim)
    return [torch.randn(shape).to(dtype) for shape in shapes]


@pytest.mark.parametrize("dim", [64, 96, 128])
def test_a_wave_multiplies_half_as_often_as_a_head_has_dims_for_each_tile(dim):
    ops = emulated_ops("hip")
    q, k, v = inputs(1, 1, 1, BLOCK, 3 * KEYS, dim)
    ops.reset()
    ops.calibrated_attention(q, k, v, scale=0.1, causal=False)
    counts = ops.counts()
    tiles = 3 * BLOCK // WAVE
    assert counts["mfma_32x32x8"] == tiles * dim // 2
    assert counts["packed weights"] == tiles * KEYS * WAVE // 2
    # the first tile sets the shift, which these scores do not outgrow; the sums meet at the end
    assert counts["exchanges"] == BLOCK // WAVE * (1 + 1)
    # twelve pieces of 96 dims do not fill rows of eight banks: 32 further turns for a tile, 42 for the end of a block
    assert counts["bank conflicts"] == (42 + 3 * 32 if dim == 96 else 0)


def test_a_causal_block_leaves_out_the_tiles_that_its_waves_do_not_see():
    ops = emulated_ops("hip")
    q, k, v = inputs(1, 1, 1, BLOCK, BLOCK, 64)
    ops.reset()
    ops.calibrated_attention(q, k, v, scale=0.1, causal=True)
    # waves 0 and 1 see one tile, 2 and 3 two …
    assert ops.counts()["mfma_32x32x8"] == 2 * (1 + 2 + 3 + 4) * 64 // 2


def test_a_group_shares_its_keys():
    ops = emulated_ops("hip")
    q, k, v = inputs(1, 8, 1, BLOCK // 8, 2 * KEYS, 64)
    ops.reset()
    ops.calibrated_attention(q, k, v, scale=0.1, causal=False)
    assert sum(n for name, n in ops.counts().items() if name.startswith(KERNEL)) == 1


@pytest.mark.parametrize("dim", [64, 96, 128])
def test_a_group_shares_each_tile_of_the_cache(dim):
    ops = emulated_ops("hip")
    torch.manual_seed(3)
    q, rows = torch.randn(1, 8, 4, dim).bfloat16(), torch.randn(300, dim).bfloat16()
    starts, lengths, slots = (torch.tensor(x, dtype=torch.int32) for x in ([[7], [150]], [[97], [100]], [[0, 1]]))
    ops.reset()
    ops.cached_attention(q, rows, rows, starts, lengths, slots, scale=0.1, causal_last=True)
    counts = ops.counts()
    ops.reset()
    ops.decode_attention(q[:, :, :1], rows, rows, starts[:1], lengths[:1], scale=0.1, longest=97)
    assert ops.counts()["mfma_32x32x8"] == 4 * (dim // 8 + 8 * -(-dim // 64))
    # four tiles of 32 keys a segment; 8 heads times 4 rows are one wave's columns, 96 dims are padded to 128
    assert counts["mfma_32x32x8"] == (4 + 4) * (dim // 8 + 8 * -(-dim // 64))


def test_every_block_has_its_place_on_the_dies():
    # 24 pairs go round 8 dies, 3 pairs do not
    for batch, kv_heads in ((3, 8), (3, 1)):
        q, k, v = inputs(batch, kv_heads, kv_heads, BLOCK + 1, 70, 64)
        out, lse, _ = emulated_ops("hip").calibrated_attention(q, k, v, scale=0.1, causal=False)
        wanted = torch.nn.functional.scaled_dot_product_attention(q.float(), k.float(), v.float(), scale=0.1)
        assert (out.float() - wanted).abs().max() < 0.02
        assert lse.isfinite().all()


def test_results_do_not_depend_on_the_order_of_threads():
    ops = emulated_ops("hip")
    q, k, v = inputs(2, 4, 2, 150, 200, 128)
    results = []
    for order in ORDERS:
        with ops.order(order, seed=9):
            results.append(ops.calibrated_attention(q, k, v, scale=0.1, causal=True)[:2])
    for out, lse in results[1:]:
        assert torch.equal(out, results[0][0])
        assert torch.equal(lse, results[0][1])


@pytest.mark.parametrize("scale", [-0.1, 0.0])
def test_what_the_kernel_refuses_goes_to_the_portable_one(scale):
    ops = emulated_ops("hip")
    q, k, v = inputs(1, 2, 1, 20, 20, 64)
    ops.reset()
    out, _, _ = ops.calibrated_attention(q, k, v, scale=scale, causal=False)
    assert not any(name.startswith(KERNEL) and n for name, n in ops.counts().items())
    grouped = (x.repeat_interleave(2, 1).float() for x in (k, v))
    wanted = torch.nn.functional.scaled_dot_product_attention(q.float(), *grouped, scale=scale)
    assert (out.float() - wanted).abs().max() < 0.02
