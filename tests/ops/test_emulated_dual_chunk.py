"""dual_chunk_attention of the GPU libraries on emulated warps: against the float64 reference, and counted."""

from functools import partial

import pytest
import torch
from emulated import LIBRARIES, ORDERS, emulated_ops, pairwise

from pcbench.measure.kernels.cases import Case, check_case, run
from pcbench.measure.kernels.draws import Draws
from pcbench.measure.kernels.dual_chunk_cases import dual_chunk

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
KEYS, WARPS = 64, 4

# rows, lengths of two batch rows and two kv-heads, period, query_lengths
SIZES = {
    "one chunk": (30, [[30, 7], [30, 30]], 40, None),
    "three chunks": (50, [[50, 50], [41, 50]], 20, None),
    "appended, chunks apart": (23, [[110, 61], [37, 23]], 24, [23, 11]),
    "a chunk of tiles": (70, [[200, 139], [70, 64]], 64, None),
    "a chunk and a key": (40, [[196, 66], [131, 1]], 65, [40, 1]),
    "rows before the first key": (19, [[5, 0], [18, 40]], 16, [19, 19]),
    "decode": (1, [[150, 20], [21, 0]], 20, None),
    "decode, an empty row": (1, [[150, 20], [77, 90]], 30, [1, 0]),
}
FACTORS = {
    "size": list(SIZES),
    "dtype": list(DTYPES),
    "dim": [64, 96, 128],
    "group": [1, 4, 7],
    "clip": [0, 5, 40],
    "channels": [None, 0, 22],
    "interleaved": [False, True],
    "gains": [False, True],
    # of each tile, rows of a tile
    "listed": [None, (1, 1), (3, 16), (2, 33)],
    "sliced": [False, True],
    "library": list(LIBRARIES),
    "order": list(ORDERS),
}


def ids(row):
    return "-".join(str(x) for x in row.values())


@pytest.mark.parametrize("row", pairwise(**FACTORS), ids=ids)
def test_dual_chunk_attention_equals_the_reference(row):
    rows, lengths, period, query_lengths = SIZES[row["size"]]
    listed, tile_rows = row["listed"] or (None, 0)
    same = ("dim", "channels", "interleaved", "gains", "sliced")
    make = partial(
        dual_chunk,
        heads=2 * row["group"],
        rows=rows,
        lengths=lengths,
        period=period,
        clip=period + row["clip"],
        query_lengths=query_lengths,
        listed=listed,
        tile_rows=tile_rows,
        **{name: row[name] for name in same},
    )
    ops = emulated_ops(row["library"])
    ops.reset()
    with ops.order(row["order"], seed=9):
        found = check_case(Case("dual_chunk_attention", ids(row), make), ops, "cpu", DTYPES[row["dtype"]])
    for result, comparison in found.items():
        assert comparison.ok, f"{result}: {comparison}"
    fast = row["library"] == "cuda" and row["dtype"] != "float32"
    assert counts(ops)["blocks of dual_chunk_tiles" if fast else "blocks of dual_chunk_kernel"] > 0


def counts(ops):
    """What was counted, and the blocks of the op's kernels whatever their instantiation."""
    found = ops.counts()
    kernels = ("dual_chunk_tiles", "dual_chunk_kernel")
    blocks = {f"blocks of {x}": sum(n for name, n in found.items() if f"::{x}<" in name) for x in kernels}
    return found | blocks


def counts_of(library, rows, keys, period, dim, heads=1):
    """What a call over one segment counts."""
    ops = emulated_ops(library)
    q, k, v = (torch.randn(n, dim).bfloat16() for n in (heads * rows, keys, keys))
    ints = [torch.tensor([[n]], dtype=torch.int32) for n in (0, keys)]
    turns = torch.ones(period + 3, dim)
    ops.reset()
    ops.dual_chunk_attention(q.view(1, heads, rows, dim), k, v, *ints, turns, scale=0.1, period=period)
    return counts(ops)


@pytest.mark.parametrize("dim", [64, 96, 128])
def test_turned_rows_cost_half_as_much_again(dim):
    # a warp multiplies 32 rows with the 64 keys of a tile, and their weights with the values
    products = WARPS * 2 * KEYS // 8 * dim // 16
    own = counts_of("cuda", 1, 2 * KEYS, 2 * KEYS, dim)
    assert own["mma_m16n8k16"] == 2 * 2 * products
    further = counts_of("cuda", 1, 4 * KEYS, KEYS, dim)
    assert further["mma_m16n8k16"] == (2 + 3 + 3 + 3) * products
    assert own["bank conflicts"] == further["bank conflicts"] == 0


def test_tensor_core_results_do_not_depend_on_the_order_of_threads():
    ops = emulated_ops("cuda")
    draw = Draws(1, torch.device("cpu"), torch.bfloat16)
    inputs = dual_chunk(draw, heads=6, rows=23, lengths=[[110, 61], [37, 23]], period=24, query_lengths=[23, 11])
    found = []
    for order in ORDERS:
        with ops.order(order, seed=3):
            found.append(run(ops, "dual_chunk_attention", inputs))
    assert all(torch.equal(again[name], x) for again in found[1:] for name, x in found[0].items())


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_group_of_heads_reads_its_keys_once(library):
    name = "cp_async16" if library == "cuda" else "blocks of dual_chunk_kernel"
    one, eight = (counts_of(library, 1, 5 * KEYS, 2 * KEYS, 128, heads)[name] for heads in (1, 8))
    assert one == eight > 0


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_grid_is_that_of_shapes(dtype, library):
    ops = emulated_ops(library)
    q, rows = torch.randn(1, 2, 9, 64).to(dtype), torch.randn(90, 64).to(dtype)
    turns, starts = torch.ones(10, 64), torch.zeros(1, 1, dtype=torch.int32)
    blocks = set()
    for keys in (90, 33, 3, 0):
        ops.reset()
        lengths = torch.full((1, 1), keys, dtype=torch.int32)
        ops.dual_chunk_attention(q, rows, rows, starts, lengths, turns, scale=0.1, period=8)
        blocks.add(ops.counts()["blocks"])
    assert len(blocks) == 1


def nearly_the_largest(draw, size, gains):
    """Queries as large as float16 has them, nearly: turned, they are larger."""
    inputs = dual_chunk(draw, rows=50, lengths=[[110]], dim=128, interleaved=True, gains=gains)
    return inputs | {"q": inputs["q"].sign() * size, "scale": 1e-6}


@pytest.mark.parametrize(("size", "gains"), [(65504.0, False), (40000.0, True)])
@pytest.mark.parametrize("library", LIBRARIES)
def test_turned_rows_may_be_larger_than_float16(library, size, gains):
    case = Case("dual_chunk_attention", "large", partial(nearly_the_largest, size=size, gains=gains))
    for result, comparison in check_case(case, emulated_ops(library), "cpu", torch.float16).items():
        assert comparison.ok, f"{result}: {comparison}"


def test_lists_of_all_chunks_change_nothing_in_whole_tiles():
    ops = emulated_ops("cuda")
    q, k, v = (torch.randn(n, 64).bfloat16() for n in (40, 300, 300))
    ints = [torch.tensor([[n]], dtype=torch.int32) for n in (0, 300)]
    turns = torch.randn(80, 64)
    arguments = (q.view(1, 1, 40, 64), k, v, *ints, turns)
    wanted = ops.dual_chunk_attention(*arguments, scale=0.1, period=64)
    chunks = torch.tensor([0, 1, 2, 3, -1], dtype=torch.int32).expand(1, 1, 2, 5).contiguous()
    found = ops.dual_chunk_attention(*arguments, scale=0.1, period=64, chunks=chunks, tile_rows=32)
    assert torch.allclose(found[1], wanted[1], atol=1e-5)
    assert torch.allclose(found[0].float(), wanted[0].float(), atol=2e-2)
