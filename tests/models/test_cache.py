import pytest
import torch
from tiny import make_runner

from pcbench.reference.bits import pack_bits, unpack_bits

HEADS, DIM = 2, 64


def rows(batch, count, start=0.0):
    values = torch.arange(batch * HEADS * count * DIM, dtype=torch.float32) + start
    return values.view(batch, HEADS, count, DIM)


def ints(*values):
    return torch.tensor(values, dtype=torch.int32)


@pytest.fixture
def store():
    made = make_runner().new_store(3, 8, evictions=True)
    made.k.fill_(torch.nan)
    made.v.fill_(torch.nan)
    return made


def segment(store, layer, slot, head):
    view = store.rows(layer)
    start, length = int(view.starts[slot, head]), int(view.lengths[slot, head])
    return view.k_rows[start : start + length], view.v_rows[start : start + length]


def test_update_writes_the_leading_rows_and_returns_the_new_ones(store):
    k, v = rows(2, 5), rows(2, 5, 1e4)
    store.begin(ints(2, 0), ints(3, 5))
    store.expect(ints(5, 5))
    assert store.update(k, v, 1) == (k, v)
    for m, (slot, count) in enumerate([(2, 3), (0, 5)]):
        for head in range(HEADS):
            held_k, held_v = segment(store, 1, slot, head)
            assert torch.equal(held_k, k[m, head, :count])
            assert torch.equal(held_v, v[m, head, :count])
    assert store.rows(0).lengths.sum() == 0


def test_later_forwards_append_behind_the_first(store):
    first, second = rows(1, 3), rows(1, 2, 1e3)
    store.begin(ints(1))
    for new in (first, second):
        store.expect(ints(new.shape[2]))
        store.update(new, new, 0)
    held, _ = segment(store, 0, 1, 1)
    assert torch.equal(held, torch.cat([first, second], 2)[0, 1])


def test_padding_rows_are_not_counted(store):
    store.begin(ints(0))
    for valid in (2, 1):
        store.expect(ints(valid))
        store.update(rows(1, 3), rows(1, 3), 0)
    assert store.rows(0).lengths[0].tolist() == [3, 3]


def test_begin_empties_the_slots_and_forgets_their_bits(store):
    store.begin(ints(1), 4)
    store.expect(ints(4))
    store.update(rows(1, 4), rows(1, 4), 0)
    store.evict(0, ints(1), pack_bits(torch.ones(1, 4, 8, dtype=torch.bool)))
    store.begin(ints(1))
    assert store.rows(0).lengths.sum() == 0
    assert store.rows(0).evicted.sum() == 0


def test_select_replaces_what_was_written(store):
    store.begin(ints(0, 1), 0)
    store.expect(ints(8, 8))
    store.update(rows(2, 8), rows(2, 8), 0)
    assert store.rows(0).lengths.sum() == 0
    lengths = torch.tensor([[2, 1], [0, 2]], dtype=torch.int32)
    store.select(0, rows(2, 2), rows(2, 2), lengths)
    assert torch.equal(store.rows(0).lengths[:2], lengths)
    assert torch.equal(segment(store, 0, 0, 1)[0], rows(2, 2)[0, 1, :1])


def test_evict_adds_bits_and_cuts_them_to_the_capacity(store):
    first = torch.zeros(1, 4, 40, dtype=torch.bool)
    first[0, 2, 5] = first[0, 1, 39] = True
    second = torch.zeros(1, 4, 3, dtype=torch.bool)
    second[0, 2, 0] = True
    store.evict(1, ints(2), pack_bits(first))
    store.evict(1, ints(2), pack_bits(second))
    hidden = unpack_bits(store.rows(1).evicted, 8)
    assert hidden.nonzero().tolist() == [[2, 2, 0], [2, 2, 5]]


def test_held_is_the_mean_over_layers_and_heads(store):
    store.lengths[0, 0] = ints(4, 2)
    store.lengths[1, 0] = ints(3, 3)
    store.lengths[:, 2] = 1
    assert store.held(ints(0, 2)) == 4.0


def test_nbytes_counts_keys_and_values(store):
    assert store.nbytes() == 2 * store.k.numel() * 4
