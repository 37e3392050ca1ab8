"""Scoring, selecting and merging against the reference."""

import pytest
import torch

from pcbench import ops, reference


def both(race, call):
    race(*(lambda floor=floor: call(floor) for floor in (ops, reference)))


@pytest.mark.parametrize("keys", [2048, 16384])
def test_select_tokens(race, keys):
    mass, k, v = torch.rand(4, 9, keys), torch.randn(4, 3, keys, 64), torch.randn(4, 3, keys, 64)
    both(race, lambda floor: floor.select_tokens(mass, k, v, capacity=512, recent=32, sink=4))


def nll_state(rows):
    return torch.full((rows,), -torch.inf), torch.zeros(rows), torch.full((rows,), -torch.inf)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_query_nll_update(race, dtype):
    logits = torch.randn(64, 8192).to(dtype)
    targets = torch.randint(8192, (64,), dtype=torch.int32)
    state = nll_state(64)
    both(race, lambda floor: floor.query_nll_update(logits, targets, 0, *state))


def test_chunk_topk(race):
    scores, ids = torch.rand(8), torch.arange(8, dtype=torch.int32)
    state = torch.full((4,), torch.inf), torch.full((4,), -1, dtype=torch.int32), torch.arange(4, dtype=torch.int32)
    both(race, lambda floor: floor.chunk_topk(scores, ids, ids + 4, *state))


def test_chunk_select(race):
    # the query of four chunks over the vocabulary of SmolLM2
    hidden, head = torch.randn(80, 576), torch.randn(49152, 576)
    targets = torch.randint(49152, (80,), dtype=torch.int32)
    segments = torch.arange(80, dtype=torch.int32) // 20
    ids = torch.arange(4, dtype=torch.int32)
    state = torch.full((2,), torch.inf), torch.full((2,), -1, dtype=torch.int32), torch.arange(2, dtype=torch.int32)
    both(race, lambda floor: floor.chunk_select(hidden, head, targets, segments, ids, ids + 2, *state)[0])


def test_merge_states(race):
    outs, lses = torch.randn(4, 1, 8, 1024, 64), torch.randn(4, 1, 8, 1024)
    both(race, lambda floor: floor.merge_states(outs, lses))
