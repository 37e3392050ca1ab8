"""Which chunks are kept, and how a prompt is cut."""

from dataclasses import replace

import pytest
import torch
from tiny import continued, make_prompt, make_runner, no_stages, putting

from pcbench.errors import ConfigError
from pcbench.methods.full import Full
from pcbench.methods.parallel_comp import Config, ParallelComp
from pcbench.methods.parallel_comp.layout import lay_out
from pcbench.methods.parallel_comp.ranking import Ranking
from pcbench.reference.packing import ChunkBatch


def prefill(runner, prompt, **config):
    config = dict(chunk_tokens=10, keep=2) | config
    return ParallelComp(Config(**config).resolve(runner.spec, "cpu"), runner).prefill(prompt, no_stages)


@torch.inference_mode()
def losses(runner, prompt, spans, tail):
    """Mean loss of the last `tail` tokens of [prefix, chunk, query], chunk by chunk."""
    found = []
    for a, b in spans:
        ids = torch.cat([prompt.prefix, prompt.context[a:b], prompt.query])
        logits = runner.model(ids[None]).logits[0]
        rows = min(tail, len(ids) - 1)
        found.append(torch.nn.functional.cross_entropy(logits[-rows - 1 : -1], ids[-rows:]).item())
    return found


@pytest.mark.parametrize("tail", [1, 3, 7, 50])
@pytest.mark.parametrize("batch", [1, 3])
def test_query_tail_scores_only_the_last_query_tokens(tail, batch, backend):
    runner, prompt = make_runner(backend=backend), make_prompt(context=43)
    prefilled = prefill(runner, prompt, query_tail=tail, micro_batch=batch)
    expected = losses(runner, prompt, prefilled.spans, min(tail, 7))
    assert prefilled.chunk_scores.tolist() == pytest.approx(expected, rel=1e-4)
    assert prefilled.kept_chunks.tolist() == sorted(sorted(range(5), key=expected.__getitem__)[:2])


@pytest.mark.parametrize("batch", [1, 3])
def test_window_nll_scores_every_token_of_chunk_and_query(batch, backend):
    runner, prompt = make_runner(backend=backend), make_prompt(context=43)
    prefilled = prefill(runner, prompt, rank_by="window_nll", micro_batch=batch)
    expected = losses(runner, prompt, prefilled.spans, 10**6)
    assert prefilled.chunk_scores.tolist() == pytest.approx(expected, rel=1e-4)
    assert prefilled.kept_chunks.tolist() == sorted(sorted(range(5), key=expected.__getitem__)[:2])


def test_random_chunks_are_others_for_other_prompts_and_the_same_for_any_batch(backend):
    runner, kept = make_runner(backend=backend), set()
    for seed in range(12):
        prompt = make_prompt(context=60, seed=seed)
        one, many = (prefill(runner, prompt, rank_by="random", micro_batch=m) for m in (1, 4))
        assert one.chunk_scores.tolist() == many.chunk_scores.tolist()
        assert one.kept_chunks.tolist() == many.kept_chunks.tolist()
        expected = sorted(sorted(range(6), key=one.chunk_scores.tolist().__getitem__)[:2])
        assert one.kept_chunks.tolist() == expected
        kept.add(tuple(expected))
    assert len(kept) > 4


def test_random_chunks_are_others_for_another_seed_or_question():
    runner, prompt = make_runner(), make_prompt(context=60)

    def scores(**changes):
        return prefill(runner, replace(prompt, **changes), rank_by="random").chunk_scores.tolist()

    assert scores() == scores()
    assert scores() != scores(seed=1)
    assert scores() != scores(query=prompt.query.flip(0))


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_prefer_highest_keeps_the_worst_chunks(batch, backend):
    runner, prompt = make_runner(backend=backend), make_prompt(context=60)
    prefilled = prefill(runner, prompt, prefer="highest", micro_batch=batch)
    scores = prefilled.chunk_scores.tolist()
    assert prefilled.kept_chunks.tolist() == sorted(sorted(range(6), key=scores.__getitem__)[-2:])
    assert scores == pytest.approx(losses(runner, prompt, prefilled.spans, 7), rel=1e-4)


@pytest.mark.parametrize("prefer", ["lowest", "highest"])
@pytest.mark.parametrize(("tie", "kept"), [("early", [0, 1]), ("late", [4, 5])])
def test_equal_chunks_are_kept_by_their_place(tie, kept, prefer, backend):
    runner, prompt = make_runner(backend=backend), make_prompt(context=60)
    prompt = replace(prompt, context=prompt.context[:10].repeat(6))
    prefilled = prefill(runner, prompt, tie=tie, prefer=prefer)
    assert len(set(prefilled.chunk_scores.tolist())) == 1
    assert prefilled.kept_chunks.tolist() == kept


@pytest.mark.parametrize("batch", [1, 2, 4, 6])
@pytest.mark.parametrize(
    ("prefer", "tie", "kept"),
    [
        ("lowest", "early", [1, 2]),
        ("lowest", "late", [2, 4]),
        ("highest", "early", [0, 3]),
        ("highest", "late", [3, 5]),
    ],
)
def test_ties_do_not_depend_on_the_micro_batch(prefer, tie, kept, batch, backend):
    runner, prompt = make_runner(backend=backend), make_prompt(context=60)
    config = Config(chunk_tokens=10, keep=2, micro_batch=batch, rank_by="random", prefer=prefer, tie=tie)
    layout = lay_out(prompt, config, runner)
    ranking = Ranking(config, layout, prompt, runner)
    ranking.drawn = torch.tensor([2.0, 1.0, 1.0, 2.0, 1.0, 2.0])
    places = {}
    for first in range(0, 6, batch):
        spans = layout.spans[first : first + batch]
        places |= {int(slot): first + m for m, slot in enumerate(ranking.free[: len(spans)])}
        ranking.offer(ChunkBatch.of(prompt, spans, first, batch), torch.empty(0), no_stages)
    ids, slots = ranking.kept()
    assert ids.tolist() == kept
    assert [places[int(slot)] for slot in slots] == kept


def test_ties_that_are_none_are_ranked_by_score(backend):
    runner, prompt = make_runner(backend=backend), make_prompt(context=60)
    late, early = (continued_with(runner, prompt, tie=tie) for tie in ("late", "early"))
    assert late[0].kept_chunks.tolist() == early[0].kept_chunks.tolist()
    assert torch.equal(late[1], early[1])


def continued_with(runner, prompt, **config):
    config = Config(chunk_tokens=10, keep=2, **config).resolve(runner.spec, "cpu")
    return continued(ParallelComp(config, runner), prompt)


def test_score_bos_puts_a_bos_before_the_query_and_scores_it(backend):
    runner, prompt = putting(make_runner(backend=backend), 299), make_prompt(context=43)
    prefilled = prefill(runner, prompt, score_bos=True)
    with_bos = replace(prompt, query=torch.cat([torch.tensor([299]), prompt.query]))
    expected = losses(runner, with_bos, prefilled.spans, 8)
    assert prefilled.chunk_scores.tolist() == pytest.approx(expected, rel=1e-4)
    # one chunk: the same as the plain forward of all of it
    config = dict(chunk_tokens=43, keep=1, score_bos=True)
    _, ours, tokens = continued(ParallelComp(Config(**config).resolve(runner.spec, "cpu"), runner), prompt)
    _, plain, expected = continued(Full(Full.Config(), runner), with_bos)
    assert tokens == expected
    assert (ours - plain).norm() <= 1e-4 * plain.norm()


def test_score_bos_adds_nothing_that_the_tokenizer_does_not_put_there(backend):
    # whatever the config calls its BOS
    runner, prompt = make_runner(backend=backend, bos_token_id=299), make_prompt()
    assert torch.equal(prefill(runner, prompt, score_bos=True).logits, prefill(runner, prompt).logits)


def with_characters(prompt, widths):
    starts = torch.tensor([0, *widths]).cumsum(0)[:-1].tolist()
    return replace(prompt, characters=starts)


def test_a_split_by_characters_cuts_equal_texts(backend):
    """24 tokens of one character, then 16 of three: 72 characters in pieces of 17, the rest in the last."""
    runner, prompt = make_runner(backend=backend), with_characters(make_prompt(context=40), [1] * 24 + [3] * 16)
    prefilled = prefill(runner, prompt, split="chars")
    # the last token starts at 69: pieces begin at 17, 34 and 51; tokens start at 24, 27, 30, 33, 36 …
    assert prefilled.spans == [(0, 17), (17, 28), (28, 33), (33, 40)]
    assert prefilled.chunk_scores.tolist() == pytest.approx(losses(runner, prompt, prefilled.spans, 7), rel=1e-4)


def test_as_many_pieces_of_characters_as_of_tokens():
    runner, prompt = make_runner(), with_characters(make_prompt(context=40), [1] * 40)
    assert prefill(runner, prompt, split="chars").spans == prefill(runner, prompt).spans


def test_a_piece_of_characters_that_does_not_fit_makes_more_pieces():
    runner = make_runner(trained_tokens=64)
    prompt = with_characters(make_prompt(context=100), [1] * 50 + [9] * 50)
    prefilled = prefill(runner, prompt, split="chars", chunk_tokens=50)
    assert max(b - a for a, b in prefilled.spans) <= 50
    assert prefilled.warnings == ["2 chunks of equal characters made 10: one held more than 50 tokens"]


def test_a_split_by_characters_without_them_is_an_error():
    with pytest.raises(ConfigError, match='split = "chars" with the character at which each token starts, got none'):
        prefill(make_runner(), make_prompt(), split="chars")


class Gpu:
    """A runner of a GPU with some bytes free, as far as the layout asks."""

    def __init__(self, free, spec):
        self.free, self.spec, self.dtype, self.device = free, spec, torch.bfloat16, torch.device("cuda")

    def free_bytes(self):
        return self.free


def batch_with(free, device="cuda", keep=2, **config):
    sizes = dict(layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128, vocab=128256, parameters=8 * 10**9)
    spec = replace(make_runner(trained_tokens=65536).spec, **sizes)
    resolved = Config(chunk_tokens=4096, keep=keep, **config).resolve(spec, device)
    return lay_out(make_prompt(context=40000), resolved, Gpu(free, spec))


def test_a_micro_batch_on_a_gpu_is_bounded_by_tokens_and_by_free_memory():
    assert batch_with(100 * 2**30).batch == 8
    assert batch_with(100 * 2**30).warnings == []
    sizes = [batch_with(gib * 2**30) for gib in (100, 10, 6, 4, 0)]
    assert [layout.batch for layout in sizes] == sorted((x.batch for x in sizes), reverse=True)
    assert 1 < sizes[2].batch < 8
    assert sizes[-1].batch == 1
    assert sizes[2].warnings == [f"micro_batch 8 cut to {sizes[2].batch}: 6.0 GiB of memory free"]


@pytest.mark.parametrize(
    "config", [dict(keep=8), dict(rank_by="window_nll"), dict(evict=dict(capacity=4096, group="query_head"))]
)
def test_what_takes_memory_makes_the_micro_batch_smaller(config):
    pairs = [(batch_with(gib * 2**30, **config).batch, batch_with(gib * 2**30).batch) for gib in range(4, 24)]
    assert all(more <= usual for more, usual in pairs)
    assert any(more < usual for more, usual in pairs)


def test_a_small_capacity_lets_more_chunks_in():
    assert batch_with(3 * 2**30, evict=dict(capacity=64)).batch > batch_with(3 * 2**30).batch


def test_a_given_micro_batch_and_one_on_a_cpu_are_not_changed():
    assert batch_with(0, micro_batch=5).batch == 5
    assert batch_with(0, device="cpu").batch == 1


def test_where_memory_is_short_the_answer_is_the_same():
    runner, prompt = make_runner(), make_prompt(context=60)
    config = Config(chunk_tokens=10, keep=2).resolve(runner.spec, "cuda")
    assert config.micro_batch > 6

    class Short(type(runner)):
        def free_bytes(self):
            return 0

    short = Short(runner.model, runner.spec, runner.tokenizer, runner.ops)
    one, all_at_once = (continued(ParallelComp(config, r), prompt) for r in (short, runner))
    assert one[0].state.store.k.shape[1] == 3
    assert all_at_once[0].state.store.k.shape[1] == 8
    assert (one[1] - all_at_once[1]).norm() < 1e-4 * one[1].norm()
