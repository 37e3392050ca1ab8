"""Dual Chunk Attention against its matrix of relative positions, in float64."""

from functools import partial

import pytest
import torch
from dense_dual_chunk import call_of, dense, frequencies_of, positions, rope
from dense_dual_chunk import drawn as drawn_of
from hypothesis import given
from hypothesis import strategies as st

from pcbench.reference import dual_chunk_attention

DIM, SCALE = 8, 0.4
drawn = partial(drawn_of, dim=DIM)
PLAIN = frequencies_of(DIM)
# of some channels or none, and of scaled embeddings: all by one factor, another base, each in its own way
FREQUENCIES = [
    PLAIN,
    frequencies_of(0),
    frequencies_of(6),
    PLAIN / 4,
    frequencies_of(DIM, base=900.0),
    PLAIN / torch.tensor([1, 1.5, 4, 8]),
]


def equal(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def settings(period=6, clip=9, frequencies=PLAIN, interleaved=False):
    return {"period": period, "clip": clip, "scale": SCALE, "frequencies": frequencies, "interleaved": interleaved}


SETTINGS = st.builds(
    lambda period, more, frequencies, interleaved: settings(period, period + more, frequencies, interleaved),
    st.integers(1, 9),
    st.integers(0, 12),
    st.sampled_from(FREQUENCIES),
    st.booleans(),
)


def test_positions_are_those_of_the_papers_second_figure():
    found = positions(12, 6, 9)
    assert [found[i, : i + 1].tolist() for i in range(5, 12)] == [
        [5, 4, 3, 2, 1, 0],
        [6, 5, 4, 3, 2, 1, 0],
        [7, 6, 5, 4, 3, 2, 1, 0],
        [8, 7, 6, 5, 4, 3, 2, 1, 0],
        [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
        [9, 8, 7, 6, 5, 4, 4, 3, 2, 1, 0],
        [9, 8, 7, 6, 5, 4, 5, 4, 3, 2, 1, 0],
    ]


@given(SETTINGS)
def test_distances_are_at_most_the_clip_and_exact_up_to_clip_less_period(chosen):
    period, clip = chosen["period"], chosen["clip"]
    found, seen = positions(40, period, clip), torch.ones(40, 40, dtype=torch.bool).tril()
    true = torch.arange(40)[:, None] - torch.arange(40)
    assert found[seen].min() >= 0
    assert found[seen].max() <= clip
    near = seen & (true <= min(period, clip - period))
    assert torch.equal(found[near], true[near])


@given(st.integers(0, 999), SETTINGS, st.lists(st.integers(1, 30), min_size=1, max_size=3), st.sampled_from([1, 3]))
def test_it_is_one_softmax_at_the_matrixs_distances(seed, chosen, lengths, group):
    sequences = [drawn(seed + b, n, heads=2 * group, kv_heads=2) for b, n in enumerate(lengths)]
    out, lse = dual_chunk_attention(**call_of(sequences, **chosen))
    for b, n in enumerate(lengths):
        equal((out[b, :, :n], lse[b, :, :n]), dense(*sequences[b], **chosen))
        assert not out[b, :, n:].any()
        assert lse[b, :, n:].isneginf().all()


@pytest.mark.parametrize(("period", "clip"), [(6, 9), (6, 11), (6, 14), (6, 6)])
def test_up_to_the_clip_and_two_periods_it_is_plain_causal_attention(period, clip):
    same = min(clip + 1, 2 * period)
    q, k, v = drawn(3, same + 1)
    chosen = settings(period, clip)
    out, lse = dual_chunk_attention(**call_of([(q, k, v)], **chosen))
    at = torch.arange(same + 1)
    scores = (rope(q, at, PLAIN, False) @ rope(k, at, PLAIN, False).transpose(-1, -2) * SCALE).masked_fill(
        torch.ones(same + 1, same + 1).triu(1).bool(), -torch.inf
    )
    plain = scores.softmax(-1) @ v, scores.logsumexp(-1)
    equal((out[0, :, :same], lse[0, :, :same]), (plain[0][:, :same], plain[1][:, :same]))
    assert (lse[0, :, same] - plain[1][:, same]).abs().max() > 1e-3


@given(st.integers(0, 999), SETTINGS, st.lists(st.integers(1, 9), min_size=2, max_size=5), st.booleans())
def test_the_answer_does_not_depend_on_how_the_prompt_is_split(seed, chosen, steps, gained):
    q, k, v = drawn(seed, sum(steps))
    gains = 1 + torch.rand(sum(steps), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    wanted = dense(q, k, v, gains=gains if gained else None, **chosen)
    end = 0
    for step in steps:
        end += step
        part = [x[:, :end] for x in (q, k, v)]
        more = {"gains": gains[None, end - step : end]} if gained else {}
        found = dual_chunk_attention(**call_of([part], rows=step, **chosen, **more))
        equal((x[0] for x in found), (x[:, end - step : end] for x in wanted))


def test_further_chunks_have_no_order():
    q, k, v = drawn(5, 29)
    order = torch.cat((torch.arange(12, 18), torch.arange(0, 12), torch.arange(18, 29)))
    found = [
        dual_chunk_attention(**call_of([x], rows=5, **settings())) for x in ((q, k, v), (q, k[:, order], v[:, order]))
    ]
    equal(*found)


def kept(chunks, length, period, tile_rows, first):
    """[Hkv, L, L]: pairs that lists of chunks leave; the rows from `first` on have lists."""
    chunk = torch.arange(length) // period
    keep = torch.zeros(len(chunks), length, length, dtype=torch.bool)
    for h, tiles in enumerate(chunks.tolist()):
        for i in range(first, length):
            listed = torch.tensor([c for c in tiles[(i - first) // tile_rows] if c >= 0], dtype=torch.long)
            keep[h, i] = torch.isin(chunk, listed) | (chunk >= chunk[i] - 1)
    return keep


@given(st.integers(0, 999), st.integers(1, 7), st.integers(0, 4), st.integers(1, 30))
def test_listed_chunks_are_all_that_rows_see_beyond_their_previous_chunk(seed, tile_rows, listed, rows):
    sequence = drawn(seed, 30, heads=4, kv_heads=2)
    generator = torch.Generator().manual_seed(seed)
    tiles = -(-rows // tile_rows)
    chunks = torch.rand(1, 2, tiles, 9, generator=generator).argsort(-1)[..., :listed].int()
    chunks[torch.rand(chunks.shape, generator=generator) < 0.3] = -1
    chosen = settings(period=4, clip=5)
    more = {"chunks": chunks, "tile_rows": tile_rows}
    found = dual_chunk_attention(**call_of([sequence], rows=rows, **chosen, **more))
    wanted = dense(*sequence, **chosen, keep=kept(chunks[0], 30, 4, tile_rows, 30 - rows))
    equal((x[0] for x in found), (x[:, 30 - rows :] for x in wanted))


def test_all_chunks_listed_is_no_list():
    call = call_of([drawn(7, 30)], **settings(period=4, clip=5))
    chunks = torch.arange(8, dtype=torch.int32).flip(0).expand(1, 1, 30, 8)
    for a, b in zip(
        dual_chunk_attention(**call, chunks=chunks, tile_rows=1), dual_chunk_attention(**call), strict=True
    ):
        assert torch.equal(a, b)


def test_scores_of_a_thousand_give_no_nan():
    q, k, v = drawn(11, 25)
    chosen = settings() | {"scale": 1.0}
    found = dual_chunk_attention(**call_of([(300 * q, 10 * k, v)], **chosen))
    assert found[1].abs().max() > 1000
    equal((x[0] for x in found), dense(300 * q, 10 * k, v, **chosen))


@pytest.mark.parametrize("interleaved", [False, True])
def test_gradients_are_those_of_the_dense_softmax(interleaved):
    """A row without keys and what lies between the segments among them."""
    chosen = settings(frequencies=frequencies_of(6), interleaved=interleaved)
    lengths = [23, 9]
    sequences = [drawn(b, n, heads=4, kv_heads=2) for b, n in enumerate(lengths)]
    weights = [torch.randn(4, n, DIM + 1, generator=torch.Generator().manual_seed(9)).double() for n in lengths]
    found, wanted = [], []
    for grads, of_op in ((found, True), (wanted, False)):
        leaves = [[x.clone().requires_grad_() for x in sequence] for sequence in sequences]
        with torch.enable_grad():
            if of_op:
                out, lse = dual_chunk_attention(**call_of(leaves, **chosen))
                results = [(out[b, :, :n], lse[b, :, :n]) for b, n in enumerate(lengths)]
            else:
                results = [dense(*leaf, **chosen) for leaf in leaves]
            total = sum(
                (torch.cat((out, lse[..., None]), -1) * w).sum() for (out, lse), w in zip(results, weights, strict=True)
            )
            total.backward()
        grads += [x.grad for leaf in leaves for x in leaf]
    equal(found, wanted)
