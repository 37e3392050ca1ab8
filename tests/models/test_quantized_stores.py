"""Quantised stores: what they hold, in how many bytes, and attention over it against float64."""

from itertools import chain

import pytest
import torch
from tiny import make_runner

from pcbench import ops, reference
from pcbench.reference.quantized import dequantize_keys, dequantize_values
from pcbench.reference.stored import stored_attention
from pcbench.types import Segments, code_bytes

FORMATS = ("int8", "int4", "fp8")
# of the largest element of a channel's block, or of a row
ERROR = {"int8": 1 / 250, "int4": 1 / 12, "fp8": 1 / 15}
HEADS, DIM = 2, 64


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ints(*values):
    return torch.tensor(values, dtype=torch.int32)


def held(rows, slot, head):
    """Keys and values of a segment, codes first, in float64."""
    q = rows.quantized
    found = []
    for decode, codes, scales, zeros, tail in (
        (dequantize_keys, q.k_codes, q.k_scales, q.k_zeros, rows.k_rows),
        (dequantize_values, q.v_codes, q.v_scales, q.v_zeros, rows.v_rows),
    ):
        wide = decode(codes, scales, zeros, torch.float64)
        parts = [(wide, q.starts, q.lengths), (tail.double(), rows.starts, rows.lengths)]
        found.append(torch.cat([x[s[slot, head] :][: n[slot, head]] for x, s, n in parts]))
    return found


def near(found, wanted, kv_dtype):
    assert found.shape == wanted.shape
    if wanted.numel():
        assert (found - wanted).abs().max() <= ERROR[kv_dtype] * wanted.abs().max()


@pytest.mark.parametrize("kv_dtype", FORMATS)
def test_slots_are_quantised_as_they_are_written_and_the_one_that_grows_is_not(kv_dtype):
    store = make_runner().new_store(3, 128, kv_dtype=kv_dtype, tail=9)
    k, v = draw(2, HEADS, 100, DIM), draw(2, HEADS, 100, DIM, seed=1)
    store.begin(ints(2, 0), ints(100, 70))
    store.expect(ints(100, 100))
    store.update(k, v, 1)
    own_k, own_v = draw(1, HEADS, 5, DIM, seed=2), draw(1, HEADS, 5, DIM, seed=3)
    store.begin(ints(1))
    for first, last in ((0, 3), (3, 5)):
        store.expect(ints(last - first))
        store.update(own_k[:, :, first:last], own_v[:, :, first:last], 1)
    rows = store.rows(1)
    for head in range(HEADS):
        for i, (slot, count) in enumerate(((2, 100), (0, 70))):
            for found, x in zip(held(rows, slot, head), (k, v), strict=True):
                near(found, x[i, head, :count].double(), kv_dtype)
        for found, x in zip(held(rows, 1, head), (own_k, own_v), strict=True):
            assert torch.equal(found, x[0, head].double())
    codes = 2 * 3 * HEADS * code_bytes(kv_dtype, 128, DIM)
    assert store.nbytes() == codes + 2 * 2 * HEADS * 9 * DIM * 4


def test_a_selection_of_fewer_rows_than_blocks_and_a_skipped_key():
    store = make_runner().new_store(2, 128, kv_dtype="int8", tail=4, evictions=True)
    k = draw(1, HEADS, 70, DIM)
    store.begin(ints(1), 0)
    store.expect(ints(90))
    store.update(draw(1, HEADS, 90, DIM), draw(1, HEADS, 90, DIM), 0)
    store.select(0, k, k, ints([70, 66]))
    store.skip_first(ints(1, 0), torch.tensor([True, False]))
    for head, count in enumerate((70, 66)):
        near(held(store.rows(0), 1, head)[0], k[0, head, 1:count].double(), "int8")


@pytest.mark.parametrize("kv_dtype", FORMATS)
def test_what_is_taken_from_a_slot_and_put_into_another_store_is_the_same(kv_dtype):
    one, other = (make_runner().new_store(2, 64, kv_dtype=kv_dtype, tail=1, evictions=True) for _ in range(2))
    k = draw(1, HEADS, 40, DIM)
    one.begin(ints(1), ints(40))
    one.expect(ints(40))
    one.update(k, k, 0)
    one.evict(0, ints(1), torch.ones(1, 4, 2, dtype=torch.int32))
    taken = one.take(0, ints(1))
    assert {x.dtype for x in taken} == {torch.int32}
    other.put(0, ints(0), taken)
    for head in range(HEADS):
        assert torch.equal(held(other.rows(0), 0, head)[0], held(one.rows(0), 1, head)[0])
    assert torch.equal(other.evicted[0, 0], one.evicted[0, 1])


def ragged(kv_dtype, kept, *, shared=False, room=3, backend="reference", dtype=torch.float32):
    runner = make_runner(backend=backend, dtype=dtype)
    kept = torch.tensor(kept)
    segments = [Segments(kept, torch.full_like(kept, room), shared=shared, kv_dtype=kv_dtype) for _ in range(2)]
    return segments, runner.new_ragged_store(segments)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kv_dtype", FORMATS)
def test_whole_blocks_of_a_ragged_store_are_codes_and_the_rest_is_exact(kv_dtype, shared):
    # heads that share a budget divide it anew
    segments, store = ragged(kv_dtype, [[100, 100], [70, 70]], shared=shared)
    lengths = [[150, 50], [5, 135]] if shared else [[100, 100], [70, 70]]
    k, v = draw(2, HEADS, 160, DIM), draw(2, HEADS, 160, DIM, seed=1)
    order = torch.stack([torch.randperm(160, generator=torch.Generator().manual_seed(i)) for i in range(4)])
    row = torch.arange(160)
    # the first so many of a random order, ascending, and −1 behind them
    chosen = [sorted(x[:n].tolist()) + [-1] * (160 - n) for x, n in zip(order, chain(*lengths), strict=True)]
    index = ints(*chosen).view(2, HEADS, len(row))
    for layer in range(2):
        store.fill(layer, k, v, index, ints(*lengths))
    store.expect(ints(1, 1))
    new = draw(2, HEADS, 1, DIM, seed=2)
    # the prompt's forward stores nothing by itself
    store.tokens = 160
    for layer in range(2):
        store.update(new, new, layer)
    rows = store.rows(1)
    for b in range(2):
        for head in range(HEADS):
            count = lengths[b][head]
            whole = count // 64 * 64
            assert int(rows.quantized.lengths[b, head]) == whole
            assert int(store.held(1)[b, head]) == count + 1
            for found, x in zip(held(rows, b, head), (k, v), strict=True):
                wanted = torch.cat([x[b, head, index[b, head, :count].long()], new[b, head]]).double()
                near(found[:whole], wanted[:whole], kv_dtype)
                assert torch.equal(found[whole:], wanted[whole:])
    assert store.nbytes() == sum(x.nbytes(DIM, 4) for x in segments)


@pytest.mark.parametrize("kv_dtype", FORMATS)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_attention_over_a_quantised_cache_is_float64_attention_over_its_round_trip(backend, kv_dtype):
    _, store = ragged(kv_dtype, [[130, 70]], backend=backend, dtype=torch.bfloat16)
    k, v = (draw(1, HEADS, 140, DIM, seed=i).bfloat16() for i in range(2))
    row = torch.arange(140, dtype=torch.int32)
    index = torch.where(row < ints([130], [70]), row, -1)[None].int()
    store.fill(0, k, v, index, ints([130, 70]))
    rows = store.rows(0)
    q, slots = draw(1, 4, 3, DIM, seed=5).bfloat16(), ints([0])
    out, lse = stored_attention(ops.backend(backend), q, rows, slots, scale=0.125, causal_last=False)
    both = [held(rows, 0, head) for head in range(HEADS)]
    k64, v64 = (torch.cat([pair[i] for pair in both]) for i in range(2))
    starts, lengths = ints([0, 130]), ints([130, 70])
    wanted, state = reference.cached_attention(
        q.double(), k64, v64, starts, lengths, slots, scale=0.125, causal_last=False
    )
    assert (out.double() - wanted).norm(dim=-1).max() <= 8e-3 * wanted.norm(dim=-1).max()
    torch.testing.assert_close(lse.double(), state, rtol=0, atol=1e-3)
