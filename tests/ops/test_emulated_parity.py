"""The GPU ops on the emulator against the float64 reference: the cases of every op, and covering arrays of shapes."""

import itertools
from functools import partial

import pytest
import torch
from emulated import LIBRARIES, ORDERS, emulated_ops, everywhere, pairwise

from pcbench import reference
from pcbench.measure.kernels import attention_cases, chunk_cases
from pcbench.measure.kernels.cases import CASES, Case, check_case

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# chunk_select is Python over two of the others
COMPILED = [case for case in CASES if case.op != "chunk_select"]
# thousands of threads for nothing that the smaller ones do not show
LARGE = ("1000", "blocks and tails", "long", "8192", "G 16", "many splits", "every row", "one kv-head of many", "251")


def name_of(row):
    return "-".join(str(x) for x in row.values())


def check(case, library, dtype, order):
    ops = emulated_ops(library)
    with ops.order(order, seed=11):
        found = check_case(case, ops, "cpu", DTYPES[dtype])
    for result, comparison in found.items():
        assert comparison.ok, f"{result}: {comparison}"


def in_turns(cases):
    """Each case with the next of all combinations of dtype, library and order."""
    turns = itertools.cycle(itertools.product(DTYPES, LIBRARIES, ORDERS))
    rows = [(case, *turn) for case, turn in zip(cases, turns, strict=False)]
    return [pytest.param(*row, id="-".join(map(str, row))) for row in rows]


SMALL = [case for case in COMPILED if not any(word in case.name for word in LARGE)]


@pytest.mark.parametrize(("case", "dtype", "library", "order"), in_turns(SMALL))
def test_emulated_op_equals_the_reference(case, dtype, library, order):
    check(case, library, dtype, order)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", [case for case in COMPILED if "attention sink" in case.name], ids=str)
def test_small_weights_of_many_keys_count_in_float32(case, library):
    check(case, library, "float32", "forward")


@pytest.mark.slow
@pytest.mark.parametrize("case", COMPILED, ids=str)
def test_emulated_op_equals_the_reference_in_every_order(case):
    for dtype, library, order in itertools.product(DTYPES, LIBRARIES, ORDERS):
        check(case, library, dtype, order)


# (rows, keys, query_lengths, key_lengths by kv-head) of two batch rows
LENGTHS = {
    "none": (0, 0, None, None),
    "one": (1, 1, None, None),
    "tile - 1": (63, 63, None, None),
    "tile": (64, 64, None, None),
    "tile + 1": (65, 65, None, None),
    "more keys": (33, 161, None, None),
    "unequal": (70, 130, [70, 7], [130, 31]),
    "an empty row": (40, 97, [0, 40], [97, 0]),
}
ATTENTION = {
    "lengths": list(LENGTHS),
    "dtype": list(DTYPES),
    "dim": [64, 96, 128],
    "group": [1, 4, 8],
    "mass_rows": [1, 8, 32, 64],
    "evicted": [None, 0.3, 1.0],
    "incoming": [False, True],
    "causal": [True, False],
    "library": list(LIBRARIES),
    "order": list(ORDERS),
}


def attention_case(row):
    rows, keys, query_lengths, key_lengths = LENGTHS[row["lengths"]]
    make = partial(
        attention_cases.calibrated,
        batch=2 if key_lengths else 1,
        heads=row["group"],
        kv_heads=1,
        rows=rows,
        keys=keys,
        dim=row["dim"],
        causal=row["causal"],
        mass_rows=row["mass_rows"],
        query_lengths=query_lengths,
        key_lengths=[[n] for n in key_lengths] if key_lengths else None,
        evicted=row["evicted"],
        incoming=row["incoming"],
    )
    return Case("calibrated_attention", name_of(row), make)


@pytest.mark.parametrize("row", pairwise(**ATTENTION), ids=name_of)
def test_emulated_calibrated_attention_equals_the_reference(row):
    check(attention_case(row), row["library"], row["dtype"], row["order"])


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", ATTENTION["dim"])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_emulated_calibrated_attention_equals_the_reference_everywhere(lengths, dim, dtype, library):
    for row in everywhere(ATTENTION, lengths=lengths, dim=dim, dtype=dtype, library=library):
        check(attention_case(row), library, dtype, row["order"])


STORES = {
    "empty": ([[0], [0]], [[0, 1]]),
    "one key": ([[1]], [[0]]),
    "tile - 1": ([[63], [31]], [[1, 0]]),
    "tile": ([[64], [32]], [[0, 1]]),
    "tile + 1": ([[65], [33]], [[0, 1]]),
    "unequal": ([[100], [0], [37]], [[0, 1, 2], [2, -1, -1]]),
    "splits": ([[260], [90], [7]], [[0, 1, 2]]),
}
CACHE = {
    "store": list(STORES),
    "dtype": list(DTYPES),
    "dim": [64, 96, 128],
    "group": [1, 4, 8],
    "rows": [1, 8, 32],
    "evicted": [None, 0.3, 1.0],
    "causal_last": [True, False],
    "shared_keys": [False, True],
    "library": list(LIBRARIES),
    "order": list(ORDERS),
}


def cache_case(row, op, make, **more):
    lengths, slots = STORES[row["store"]]
    shape = dict(heads=row["group"], rows=row["rows"], lengths=lengths, slots=slots, dim=row["dim"])
    make = partial(make, causal_last=row["causal_last"], **shape, **more)
    return Case(op, name_of(row), make)


def check_cached(row):
    case = cache_case(
        row, "cached_attention", attention_cases.cached, evicted=row["evicted"], shared_keys=row["shared_keys"]
    )
    check(case, row["library"], row["dtype"], row["order"])


@pytest.mark.parametrize("row", pairwise(**CACHE), ids=name_of)
def test_emulated_cached_attention_equals_the_reference(row):
    check_cached(row)


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("store", STORES)
def test_emulated_cached_attention_equals_the_reference_everywhere(store, dtype, library):
    for row in everywhere(CACHE, store=store, dtype=dtype, library=library):
        check_cached(row)


WINDOWS = {name: values for name, values in CACHE.items() if name not in ("evicted", "shared_keys")} | {
    "rows": [1, 8, 32, 64]
}


def check_window(row):
    case = cache_case(row, "window_mass", attention_cases.window, window=row["rows"], longest=270)
    check(case, row["library"], row["dtype"], row["order"])


@pytest.mark.parametrize("row", pairwise(**WINDOWS), ids=name_of)
def test_emulated_window_mass_equals_the_reference(row):
    check_window(row)


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("store", STORES)
def test_emulated_window_mass_equals_the_reference_everywhere(store, dtype, library):
    for row in everywhere(WINDOWS, store=store, dtype=dtype, library=library):
        check_window(row)


SELECTIONS = {
    "keys": [0, 1, 255, 257, 1025, 4097],
    "dtype": list(DTYPES),
    "dim": [64, 96, 128],
    "group": [1, 4, 8],
    "capacity": [1, 33, 100],
    "pool": [1, 7, 31],
    "levels": [None, 3],
    "evicted": [None, 0.3],
    "protect": [None, 0.1],
    "recent": [0, 9],
    "library": list(LIBRARIES),
    "order": list(ORDERS),
}


def check_selection(row):
    names = ("keys", "dim", "capacity", "pool", "levels", "evicted", "protect", "recent")
    make = partial(chunk_cases.select, batch=1, heads=row["group"], kv_heads=1, **{name: row[name] for name in names})
    case = Case("select_tokens", name_of(row), make)
    check(case, row["library"], row["dtype"], row["order"])


@pytest.mark.parametrize("row", pairwise(**SELECTIONS), ids=name_of)
def test_emulated_select_tokens_equals_the_reference(row):
    check_selection(row)


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", SELECTIONS["dim"])
@pytest.mark.parametrize("keys", SELECTIONS["keys"])
def test_emulated_select_tokens_equals_the_reference_everywhere(keys, dim, dtype, library):
    for row in everywhere(SELECTIONS, keys=keys, dim=dim, dtype=dtype, library=library):
        check_selection(row)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("keys", [16384, 16385, pytest.param(131072, marks=pytest.mark.slow)])
def test_emulated_select_tokens_takes_rows_beyond_one_launch(keys, library):
    make = partial(
        chunk_cases.select, batch=1, heads=2, kv_heads=1, keys=keys, capacity=300, levels=50, key_lengths=[[keys - 3]]
    )
    check(Case("select_tokens", f"{keys} keys", make), library, "bfloat16", "seeded")


def test_emulated_select_tokens_takes_the_largest_capacity():
    make = partial(chunk_cases.select, batch=1, heads=1, kv_heads=1, keys=8200, capacity=8192, dim=3)
    check(Case("select_tokens", "capacity 8192", make), "hip", "bfloat16", "forward")


TILES = {
    "columns": [1, 7, 255, 2049],
    "rows": [1, 5],
    "first": [0, 50],
    "fresh": [True, False],
    "dtype": list(DTYPES),
    "library": list(LIBRARIES),
    "order": list(ORDERS),
}
# a special value is in the third column of the second row, the third row is -inf
SPECIALS = TILES | {
    "columns": [3, 7, 255, 2049],
    "rows": [3, 5],
    "special": [float("nan"), float("inf"), -float("inf")],
}


def check_tile(row):
    shape = {name: row[name] for name in ("rows", "columns", "first", "fresh")}
    case = Case("query_nll_update", str(row), partial(chunk_cases.nll, special=row.get("special"), **shape))
    check(case, row["library"], row["dtype"], row["order"])


@pytest.mark.parametrize("row", [*pairwise(**TILES), *pairwise(**SPECIALS)], ids=name_of)
def test_emulated_query_nll_update_equals_the_reference(row):
    check_tile(row)


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factors", [TILES, SPECIALS], ids=["finite", "special"])
def test_emulated_query_nll_update_equals_the_reference_everywhere(factors, dtype, library):
    for row in everywhere(factors, dtype=dtype, library=library):
        check_tile(row)


def test_emulated_cases_cover_every_compiled_op():
    assert {case.op for case in SMALL} == set(reference.__all__) - {"chunk_select"}
