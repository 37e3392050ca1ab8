"""Two real processes that share the chunks of a prompt are one."""

import pytest
import torch
from forked import CONTEXT, serve
from ranks_of_chunks import lose, results, share, starve

RULES = [dict(zone="all", layers=[0, 1], threshold=0.1, scope=scope) for scope in ("global", "chunk")]
CONFIGS = {
    "plain": dict(chunk_tokens=11, keep=3),
    "more ranks than chunks": dict(chunk_tokens=100, keep=1),
    "keeps all": dict(chunk_tokens=11, keep=20, micro_batch=2),
    "evicts": dict(chunk_tokens=11, keep=2, evict=dict(capacity=5, group="query_head"), calibration=RULES),
    "evicts from the cache": dict(chunk_tokens=11, keep=3, evict=dict(capacity=5, when="query", decode=True)),
    "other order": dict(chunk_tokens=9, keep=2, tie="late", prefer="highest", micro_batch=2),
    "random": dict(chunk_tokens=9, keep=2, rank_by="random"),
}


def start(function, ranks, *args):
    serve()
    started = [CONTEXT.Process(target=function, args=(rank, ranks, *args)) for rank in range(ranks)]
    for process in started:
        process.start()
    for process in started:
        process.join(600)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    return codes


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_keep_the_chunks_of_one_and_give_its_answer(ranks, tmp_path):
    assert start(share, ranks, str(tmp_path), list(CONFIGS.values())) == [0] * ranks
    for config, found in zip(CONFIGS.values(), torch.load(tmp_path / "found"), strict=True):
        for got, one in zip(found, results(config, "cpu"), strict=True):
            assert got[0] == one[0]
            assert torch.allclose(got[1], one[1], atol=1e-5)
            assert (got[2] - one[2]).abs().max() <= 1e-4
            assert got[3:] == one[3:]


def test_without_a_process_group_one_rank_does_all():
    config = CONFIGS["plain"]
    for got, one in zip(results(config | dict(ranks="chunks"), "cpu"), results(config, "cpu"), strict=True):
        assert torch.equal(got[2], one[2])


def test_a_rank_without_memory_fails_one_prompt_and_a_lost_rank_all_that_follow(tmp_path):
    codes = start(lose, 2, str(tmp_path))
    said = torch.load(tmp_path / "said")
    assert codes[1] == -9
    assert said[0] == said[2]
    assert said[0].startswith("[")
    assert said[1] == "MemoryError: rank 1: no more memory"
    assert said[3].startswith("RankLost: parallel_comp: every rank until the end, got one that ended before (")
    assert said[4].startswith("RankLost: ")


@pytest.mark.parametrize("starved", [0, 1])
def test_no_memory_while_slots_travel_ends_every_rank(starved, tmp_path):
    assert start(starve, 2, str(tmp_path), starved) == [0, 0]
    said = [(tmp_path / str(rank)).read_text() for rank in range(2)]
    cause = f"every rank's best chunks, got an error on rank {starved} (OutOfMemoryError: no more memory)"
    assert said[starved] == f"parallel_comp: {cause}"
    assert said[1 - starved].startswith("parallel_comp: every rank until the end, got one that ended before (")
