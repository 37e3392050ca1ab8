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


def filled(store, slot, count):
    k, v = rows(1, count), rows(1, count, 1e4)
    store.begin(ints(slot))
    store.expect(ints(count))
    store.update(k, v, 0)
    return k[0], v[0]


@pytest.mark.parametrize("skipped", [False, True])
@pytest.mark.parametrize("count", [5, 8])
def test_keep_moves_the_kept_rows_and_their_bits_to_the_front(store, skipped, count):
    k, v = filled(store, 1, count)
    hidden = torch.zeros(1, 4, 8, dtype=torch.bool)
    hidden[0, 1, 3] = hidden[0, 2, 4] = True
    store.evict(0, ints(1), pack_bits(hidden))
    store.skip_first(ints(1), torch.tensor([skipped]))
    first = int(skipped)
    kept = torch.zeros(1, HEADS, 8, dtype=torch.bool)
    wanted = [[0, 3 - first], [1, 2, count - 1 - first]]
    for head, places in enumerate(wanted):
        kept[0, head, places] = True
    store.keep(0, ints(1), kept)
    for head, places in enumerate(wanted):
        held_k, held_v = segment(store, 0, 1, head)
        assert torch.equal(held_k, k[head, [p + first for p in places]])
        assert torch.equal(held_v, v[head, [p + first for p in places]])
    bits = unpack_bits(store.rows(0).evicted[1], 8)
    assert bits.nonzero().tolist() == [[1, 1], *([[2, 2]] if count == 5 else [])]


def test_keep_leaves_other_slots_and_layers_alone(store):
    filled(store, 0, 4)
    other = filled(store, 1, 4)[0]
    before = store.k[1].clone()
    store.keep(0, ints(0), torch.zeros(1, HEADS, 8, dtype=torch.bool))
    assert store.rows(0).lengths.tolist() == [[0, 0], [4, 4], [0, 0]]
    assert torch.equal(segment(store, 0, 1, 1)[0], other[1])
    assert torch.equal(store.k[1].nan_to_num(7), before.nan_to_num(7))


def test_a_row_after_keep_is_appended_behind_what_is_left_and_seen(store):
    k, _ = filled(store, 1, 6)
    store.evict(0, ints(1), pack_bits(torch.ones(1, 4, 8, dtype=torch.bool)))
    kept = torch.zeros(1, HEADS, 8, dtype=torch.bool)
    kept[0, :, 2:4] = True
    store.keep(0, ints(1), kept)
    new = rows(1, 1, 5e4)
    store.expect(ints(1))
    store.update(new, new, 0)
    assert torch.equal(segment(store, 0, 1, 0)[0], torch.cat([k[0, 2:4], new[0, 0]]))
    assert unpack_bits(store.rows(0).evicted[1], 8)[:, 2:].sum() == 0


def test_a_store_of_more_heads_repeats_the_keys():
    store = make_runner().new_store(2, 8, kv_heads=4)
    k, v = filled(store, 1, 5)
    for head in range(4):
        held_k, held_v = segment(store, 0, 1, head)
        assert torch.equal(held_k, k[head // 2])
        assert torch.equal(held_v, v[head // 2])


def test_nbytes_counts_keys_and_values(store):
    assert store.nbytes() == 2 * store.k.numel() * 4
