"""Properties of chunk scores and of the kept chunks."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from pcbench.reference import chunk_select, chunk_topk, query_nll_update
from pcbench.reference.chunks import split_chunks

# few distinct values, so that ties are common
SCORES = st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0, float("inf"), float("nan")]), max_size=12)


def fresh(keep):
    ids = torch.full((keep,), -1, dtype=torch.int32)
    return torch.full((keep,), torch.inf), ids, torch.arange(keep, dtype=torch.int32)


def stream(scores, ids, keep, sizes):
    """Feeds the chunks in micro-batches through K + M slots; returns the state and the slots that were seen."""
    best = fresh(keep)
    width = max(sizes, default=1)
    free = torch.arange(keep, keep + width, dtype=torch.int32)
    at = 0
    for size in sizes:
        batch = torch.full((width,), torch.inf), torch.full((width,), -1, dtype=torch.int32)
        batch[0][:size] = torch.tensor(scores[at : at + size])
        batch[1][:size] = torch.tensor(ids[at : at + size], dtype=torch.int32)
        owned = set(free.tolist()) | set(best[2].tolist())
        assert owned == set(range(keep + width))
        free = chunk_topk(*batch, free, *best)
        at += size
    return best


def splits(count, random):
    sizes = []
    while count:
        sizes.append(random.randint(1, count))
        count -= sizes[-1]
    return sizes


@given(SCORES, st.integers(0, 5), st.randoms(use_true_random=False))
def test_chunk_topk_does_not_depend_on_the_micro_batches(scores, keep, random):
    ids = list(range(len(scores)))
    once = stream(scores, ids, keep, [len(scores)] if scores else [])
    again = stream(scores, ids, keep, splits(len(scores), random))
    assert torch.equal(once[0], again[0])
    assert torch.equal(once[1], again[1])


@given(SCORES, st.integers(0, 5), st.randoms(use_true_random=False))
def test_chunk_topk_does_not_depend_on_the_order_of_chunks(scores, keep, random):
    order = random.sample(range(len(scores)), len(scores))
    once = stream(scores, list(range(len(scores))), keep, [1] * len(scores))
    again = stream([scores[i] for i in order], order, keep, splits(len(scores), random))
    assert torch.equal(once[0], again[0])
    assert torch.equal(once[1], again[1])


@given(SCORES, st.integers(0, 5))
def test_chunk_topk_keeps_the_lowest_and_the_earlier(scores, keep):
    best = stream(scores, list(range(len(scores))), keep, [len(scores)] if scores else [])
    plain = [float("inf") if s != s else s for s in scores]
    kept = sorted(sorted(range(len(scores)), key=lambda i: (plain[i], i))[:keep])
    assert best[1].tolist() == kept + [-1] * (keep - len(kept))
    assert best[0].tolist() == [plain[i] for i in kept] + [float("inf")] * (keep - len(kept))


@given(st.integers(0, 999), st.integers(1, 5), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_query_nll_update_is_cross_entropy_whatever_the_tiles(seed, rows, tiles):
    generator = torch.Generator().manual_seed(seed)
    vocab = sum(tiles)
    logits = torch.randn(rows, vocab, generator=generator, dtype=torch.float64) * 5
    targets = torch.randint(vocab, (rows,), generator=generator, dtype=torch.int32)
    state = [torch.full((rows,), x, dtype=torch.float64) for x in (-torch.inf, 0.0, -torch.inf)]
    bounds = torch.tensor([0, *tiles]).cumsum(0).tolist()
    # last tile first: the order does not matter
    for start, stop in reversed(list(pairwise(bounds))):
        query_nll_update(logits[:, start:stop], targets, start, *state)
    nll = state[0] + state[1].log() - state[2]
    wanted = torch.nn.functional.cross_entropy(logits, targets.long(), reduction="none")
    torch.testing.assert_close(nll, wanted, rtol=1e-12, atol=1e-12)


def test_chunk_select_scores_are_mean_losses():
    generator = torch.Generator().manual_seed(0)
    hidden, head = (torch.randn(n, 16, generator=generator, dtype=torch.float64) for n in (7, 20_000))
    targets = torch.randint(20_000, (7,), generator=generator, dtype=torch.int32)
    segments = torch.tensor([0, 0, 2, 2, 2, -1, 0], dtype=torch.int32)
    where = torch.arange(3, dtype=torch.int32), torch.arange(2, 5, dtype=torch.int32)
    best = fresh(2)
    scores, freed = chunk_select(hidden, head, targets, segments, *where, *best)
    losses = torch.nn.functional.cross_entropy(hidden @ head.T, targets.long(), reduction="none")
    wanted = torch.stack([losses[segments == 0].mean(), torch.tensor(torch.inf).double(), losses[segments == 2].mean()])
    torch.testing.assert_close(scores, wanted, rtol=1e-12, atol=1e-12)
    assert best[1].tolist() == [0, 2]
    assert freed.tolist() == [3, 0, 1]


@given(st.integers(0, 500), st.integers(1, 60))
def test_split_chunks_is_the_fewest_even_spans(tokens, chunk_tokens):
    spans = split_chunks(tokens, chunk_tokens)
    assert [a for a, _ in spans] == [0] + [b for _, b in spans[:-1]]
    assert spans[-1][1] == tokens
    sizes = [b - a for a, b in spans]
    assert max(sizes) <= chunk_tokens
    assert max(sizes) - min(sizes) <= 1
    assert len(spans) == max(1, -(-tokens // chunk_tokens))
