"""Every kernel that the GPU libraries hold runs on the emulator, and which op starts how many of them."""

import re
import tomllib
from functools import partial

import pytest
import torch
from emulated import LIBRARIES, emulated_ops
from resource_budget import budget_file

from pcbench.measure import attention_cases, chunk_cases
from pcbench.measure.cases import Case, check_case

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
DIMS = (64, 96, 128)
STORE = {"lengths": [[70], [33]], "slots": [[0, 1]], "heads": 1}


def cases():
    """A few calls of each op that between them choose every instantiation, by dtype."""
    calibrated = partial(attention_cases.calibrated, heads=1, keys=70)
    for dim in DIMS:
        for rows, mass_rows, evicted in ((5, 5, None), (70, 40, 0.3)):
            yield Case(
                "calibrated_attention",
                f"D {dim}, {rows} rows",
                partial(calibrated, rows=rows, dim=dim, mass_rows=mass_rows, evicted=evicted),
            )
        for rows in (1, 40):
            name = f"D {dim}, {rows} rows"
            yield Case("cached_attention", name, partial(attention_cases.cached, rows=rows, dim=dim, **STORE))
            window = partial(attention_cases.window, rows=rows, window=rows, dim=dim, **STORE)
            yield Case("window_mass", name, window)
    for keys in (10, 2000, 5000, 16385):
        select = partial(chunk_cases.select, batch=1, heads=1, kv_heads=1, keys=keys, dim=8, capacity=5)
        yield Case("select_tokens", f"{keys} keys", select)
    yield Case("merge_states", "2 parts", partial(attention_cases.merge, parts=2, rows=2))
    yield Case("query_nll_update", "9 columns", partial(chunk_cases.nll, rows=2, columns=9))
    yield Case("chunk_topk", "3 chunks", partial(chunk_cases.topk_random, keep=2, count=3))


def kernels_run(ops):
    """Name, without namespaces, → blocks."""
    counts = {name.partition(" of ")[2]: n for name, n in ops.counts().items() if name.startswith("blocks of ")}
    return {re.sub(r"\w+::", "", name): n for name, n in counts.items() if n}


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_compiled_kernel_runs_and_equals_the_reference(library):
    ops = emulated_ops(library)
    ops.reset()
    for dtype in DTYPES:
        for case in cases():
            wrong = {name: x for name, x in check_case(case, ops, "cpu", dtype).items() if not x.ok}
            assert wrong == {}, f"{case} {dtype}"
    budget = tomllib.loads(budget_file(library).read_text())
    compiled = {name for kernels in budget.values() if isinstance(kernels, dict) for name in kernels}
    assert compiled == set(kernels_run(ops))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("keys", "launches"), [(1, 1), (1024, 1), (1025, 1), (16384, 1), (16385, 2), (40000, 2)])
def test_select_tokens_is_one_launch_up_to_16384_keys_and_two_beyond(keys, launches, library):
    ops = emulated_ops(library)
    k = torch.zeros(1, 1, keys, 1)
    ops.reset()
    ops.select_tokens(torch.rand(1, 1, keys), k, k, capacity=1)
    assert len(kernels_run(ops)) == launches
