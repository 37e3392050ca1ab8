"""What the GPU glue refuses and promises, on the emulator."""

import pytest
import torch
from emulated import LIBRARIES, ORDERS, emulated_ops

from pcbench.measure.kernels.cases import CASES, run

ORDERED = [
    c
    for c in CASES
    if str(c)
    in (
        "calibrated_attention-unequal lengths",
        "key_mass-unequal lengths",
        "cached_attention-query",
        "quantized_attention-query",
        "window_mass-query",
        "decode_attention-budgets of heads",
        "dual_chunk_attention-unequal lengths",
        "merge_states-9 parts",
        "query_nll_update-a later tile",
        "chunk_topk-many",
        "select_tokens-everything at once",
    )
]


@pytest.fixture(params=LIBRARIES)
def emulated(request):
    return emulated_ops(request.param)


def bits(results):
    return [x.contiguous().view(torch.uint8) if x.dim() else x for x in results.values()]


@pytest.mark.parametrize("case", ORDERED, ids=str)
def test_result_does_not_depend_on_the_order_of_threads(case, emulated):
    inputs = case.inputs("cpu", torch.float32)
    results = []
    for order in ORDERS:
        with emulated.order(order, seed=3):
            results.append(bits(run(emulated, case.op, inputs)))
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


def test_orders_are_compared_for_every_op():
    assert len(ORDERED) == 11


def test_changed_argument_that_overlaps_another_is_refused(emulated):
    state = torch.zeros(3)
    with pytest.raises(RuntimeError, match="query_nll_update: row_max must not overlap row_sum, got the same memory"):
        emulated.query_nll_update(torch.zeros(3, 8), torch.zeros(3, dtype=torch.int32), 0, state, state, torch.zeros(3))
    best = torch.zeros(2, dtype=torch.int32)
    with pytest.raises(RuntimeError, match="chunk_topk: best_ids must not overlap best_slots"):
        emulated.chunk_topk(torch.zeros(1), best[:1].clone(), best[:1].clone(), torch.zeros(2), best, best)


def test_neighbouring_views_do_not_overlap(emulated):
    state = torch.zeros(3, 3)
    emulated.query_nll_update(torch.zeros(3, 8), torch.zeros(3, dtype=torch.int32), 0, *state)
    assert torch.equal(state[1], torch.full((3,), 8.0))


def test_tensor_elsewhere_is_refused_by_name(emulated):
    with pytest.raises(NotImplementedError, match="merge_states"):
        emulated.merge_states(torch.zeros(2, 1, 1, 3, 64, device="meta"), torch.zeros(2, 1, 1, 3, device="meta"))


def test_pool_wider_than_shared_memory_is_refused(emulated):
    k = torch.zeros(1, 1, 16385, 1)
    with pytest.raises(RuntimeError, match="pool must be <= 8191 with more than 16384 keys, got 8193"):
        emulated.select_tokens(torch.zeros(1, 1, 16385), k, k, capacity=4, pool=8193)


def test_shares_of_a_row_copy_all_of_it(emulated):
    k = torch.randn(1, 1, 300, 64)
    mass = torch.rand(1, 1, 300)
    emulated.reset()
    k2, _, index, _ = emulated.select_tokens(mass, k, k, capacity=200)
    blocks = [n for name, n in emulated.counts().items() if name.startswith("blocks of") and n]
    # twice as many blocks as the emulator's four multiprocessors, of at least 32 rows each
    assert blocks == [7]
    assert torch.equal(k2[0, 0], k[0, 0, index[0, 0].long()])
