"""Every kernel that the GPU libraries hold runs on the emulator, and which op starts how many of them."""

import re
import tomllib

import pytest
import torch
from emulated import LIBRARIES, emulated_ops
from resource_budget import budget_file
from small_calls import LARGEST_ELEMENTS

from pcbench.measure.kernels.cases import CASES, check_case
from pcbench.measure.kernels.instantiations import KERNELS

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# every other kernel is launched by these cases of the ops that are not in KERNELS
OTHERS = {
    "select_tokens-31 keys",
    "select_tokens-2000 keys",
    "select_tokens-5000 keys",
    "select_tokens-9000 keys",
    "select_tokens-16385 keys",
    "merge_states-2 parts",
    "query_nll_update-31 columns",
    "chunk_topk-many",
    *(
        f"quantized_attention-{kind}, D {dim}, {n} rows"
        for dim in (64, 96, 128)
        for kind, n in (("int8", 40), ("fp8", 1))
    ),
}
CHOSEN = [case for case in CASES if case.name in KERNELS.get(case.op, ()) or str(case) in OTHERS]


def kernels_run(ops):
    """Name, without namespaces, → blocks."""
    counts = {name.partition(" of ")[2]: n for name, n in ops.counts().items() if name.startswith("blocks of ")}
    return {re.sub(r"\w+::", "", name): n for name, n in counts.items() if n}


@pytest.mark.parametrize("case", CHOSEN, ids=str)
def test_the_cases_of_every_kernel_are_small_enough_for_the_sanitizer(case):
    tensors = (x for x in case.inputs("cpu", torch.float32).values() if isinstance(x, torch.Tensor))
    assert sum(x.numel() for x in tensors) <= LARGEST_ELEMENTS


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_compiled_kernel_runs_and_equals_the_reference(library):
    ops = emulated_ops(library)
    ops.reset()
    for dtype in DTYPES:
        for case in CHOSEN:
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
