"""A model with a method inside: what holds every token is the model itself, what holds less is the method."""

import copy

import pytest
import torch
from tiny import make_runner

from pcbench import attach
from pcbench.errors import ConfigError
from pcbench.models.interface import CACHE

METHODS = [
    "snapkv", "pyramidkv", "adakv", "h2o", "streaming_llm", "tova", "knorm", "keydiff", "expected_attention",
    "random_tokens", "recent_only",
]  # fmt: skip
HEADS = {1: (2, 2), 3: (3, 1), 8: (8, 1)}
LENGTHS = (23, 41, 30)


def make_model(family="llama", group=None, **changes):
    heads = dict(zip(("num_attention_heads", "num_key_value_heads"), HEADS[group], strict=True)) if group else {}
    return make_runner(family, **heads, **changes).model


def make_batch(lengths=LENGTHS, seed=0):
    """Left-padded ids and their mask."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 300, (len(lengths), max(lengths)), generator=generator)
    mask = torch.arange(max(lengths)) >= max(lengths) - torch.tensor(lengths)[:, None]
    return {"input_ids": ids * mask, "attention_mask": mask.long()}


def row(batch, i):
    """A prompt of the batch by itself."""
    mask = batch["attention_mask"][i].bool()
    return {name: x[i : i + 1, mask] for name, x in batch.items()}


def generated(model, batch, tokens=8, **more):
    options = {"do_sample": False, "pad_token_id": 0, "return_dict_in_generate": True, "output_logits": True}
    return model.generate(**batch, max_new_tokens=tokens, **options | more)


def assert_same(ours, truth):
    assert ours.sequences.tolist() == truth.sequences.tolist()
    torch.testing.assert_close(torch.stack(ours.logits), torch.stack(truth.logits), rtol=1e-4, atol=1e-4)


def continued(model, first, batch, **more):
    """A second turn: what was generated and a few tokens more, over the cache of the first."""
    ids = torch.cat([first.sequences, make_batch((5,) * len(first.sequences), seed=9)["input_ids"]], 1)
    mask = batch["attention_mask"]
    mask = torch.cat([mask, mask.new_ones(len(ids), ids.shape[1] - mask.shape[1])], 1)
    return generated(model, {"input_ids": ids, "attention_mask": mask, CACHE: first[CACHE]}, **more)


def kept(cache):
    """Positions that are stored: [row][layer][head]."""
    return [
        [
            [sorted(cache.positions[i][start : start + length].tolist()) for start, length in zip(*heads, strict=True)]
            for i, heads in enumerate(
                zip(*(torch.stack(x)[:, b].tolist() for x in (cache.starts, cache.lengths)), strict=True)
            )
        ]
        for b in range(cache.shape[0])
    ]


@pytest.mark.parametrize(
    ("method", "family", "group"),
    [(method, "llama", None) for method in METHODS]
    + [(method, family, None) for method in ("snapkv", "h2o") for family in ("qwen2", "gemma", "cohere")]
    + [(method, "llama", group) for method in ("adakv", "tova") for group in HEADS],
)
def test_a_budget_that_holds_everything_generates_as_the_model_itself(method, family, group):
    model, batch = make_model(family, group), make_batch()
    truth = generated(model, batch)
    turn = continued(model, truth, batch)
    with attach(model, method, tokens=200) as handle:
        ours = generated(model, batch)
        assert_same(ours, truth)
        assert_same(continued(model, ours, batch), turn)
        assert len(handle.report().tokens) == 3
        alone = generated(model, row(batch, 0))
    assert alone.sequences[0, 23:].tolist() == truth.sequences[0, 41:].tolist()


# fewer protected tokens than stay, so that scores decide
NARROW = {
    **{method: {"window": 6} for method in ("snapkv", "pyramidkv", "adakv")},
    **{method: {"recent": 6} for method in ("knorm", "keydiff", "expected_attention", "random_tokens")},
}
OTHERS = [
    ("snapkv", {"preset": "uncomp-released", "window": 6}), ("snapkv", {"window": 6, "pool": 5, "pooling": "avg"}),
    ("adakv", {"preset": "released"}), ("h2o", {"score": "mean", "recent": 6}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "config"), [*((method, NARROW.get(method, {})) for method in METHODS), *OTHERS])
def test_rows_of_a_padded_batch_keep_what_they_keep_alone(method, config):
    model, batch = make_model(), make_batch((9, 60, 41, 22))
    with attach(model, method, tokens=20, **config):
        together = generated(model, batch, tokens=12)
        for i in range(4):
            alone = generated(model, row(batch, i), tokens=12)
            assert together.sequences[i, 60:].tolist() == alone.sequences[0, -12:].tolist()
            assert kept(together[CACHE])[i] == kept(alone[CACHE])[0]


@pytest.mark.parametrize("method", METHODS)
def test_what_a_request_holds_is_what_was_asked_for(method):
    model, batch = make_model(), make_batch((70, 50))
    with attach(model, method, tokens=24) as handle:
        cache = model(**batch)[CACHE]
        sizes = handle.report()
    total = [sum(map(sum, layers)) for layers in sizes.tokens]
    assert total == pytest.approx([24 * 2 * 2] * 2, abs=4 if method == "pyramidkv" else 0)
    if method not in ("adakv", "pyramidkv"):
        assert sizes.tokens == [[[24, 24]] * 2] * 2
    held = (*cache.k, *cache.v, *cache.aside, *cache.masses)
    assert sizes.bytes == cache.nbytes() == sum(x.numel() * 4 for x in held)
    assert sizes.full_bytes == 2 * 2 * 2 * 64 * 4 * 70 * 2


@pytest.mark.parametrize(("method", "prompt"), [("h2o", 60), ("streaming_llm", 60), ("streaming_llm", 8), ("tova", 60)])
def test_two_hundred_steps_in_fixed_mode_take_no_byte_more(method, prompt):
    model, ids = make_model(), make_batch((prompt,))["input_ids"]
    with attach(model, method, tokens=16) as handle:
        output = model(input_ids=ids)
        cache, arenas = output[CACHE], [x.data_ptr() for x in (*output[CACHE].k, *output[CACHE].v)]
        held = handle.report().bytes
        for _ in range(200):
            output = model(input_ids=output.logits[:, -1:].argmax(-1), **{CACHE: cache})
        assert [x.data_ptr() for x in (*cache.k, *cache.v)] == arenas
        assert handle.report().bytes == held
        assert handle.report().tokens == [[[17, 17]] * 2]


def test_rows_below_their_limit_grow_alone(monkeypatch):
    model, batch = make_model(), make_batch((60, 9))
    with attach(model, "h2o", tokens=40):
        truth = generated(model, batch, tokens=50)
        monkeypatch.setattr("pcbench.models.attach.evicting.ROOM", 8)
        monkeypatch.setattr("pcbench.models.stores.ragged.MORE", 8)
        ours = generated(model, batch, tokens=50)
    assert_same(ours, truth)
    assert [x.tolist() for x in ours[CACHE].sizes] == [[[41, 41]] * 2] * 2


def test_detach_leaves_no_trace():
    model, batch = make_model(), make_batch()
    before, names, config = model(**batch).logits, dict(vars(model)), model.config.to_dict()
    with attach(model, "snapkv", tokens=8) as handle:
        assert not torch.equal(generated(model, batch).logits[-1], generated(model, batch, use_cache=False).logits[-1])
    handle.detach()
    assert vars(model).keys() == names.keys()
    assert model.config.to_dict() == config
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(model(**batch).logits, before)
    with pytest.raises(ConfigError, match="report: a request"):
        handle.report()


def test_a_forward_that_the_model_had_of_its_own_is_there_again():
    model = make_model()
    model.forward = own = model.forward
    attach(model).detach()
    assert vars(model)["forward"] is own
    handle = attach(model)
    model.forward = own
    with pytest.raises(ConfigError, match="got one that was put around it since"):
        handle.detach()


def test_a_copy_of_an_attached_model_would_run_the_model_itself():
    model, batch = make_model(), make_batch()
    with attach(model, "snapkv", tokens=8), pytest.raises(ConfigError, match="a model without a method to copy, got"):
        copy.deepcopy(model)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(**batch).logits, model(**batch).logits)


def test_two_models_have_two_methods():
    one, other, batch = make_model(), make_model("qwen2"), make_batch((50,))
    alone = {}
    for model, method in ((one, "snapkv"), (other, "h2o")):
        with attach(model, method, tokens=16):
            alone[method] = generated(model, batch).sequences.tolist()
    with attach(one, "snapkv", tokens=16), attach(other, "h2o", tokens=16) as second:
        assert generated(one, batch).sequences.tolist() == alone["snapkv"]
        assert generated(other, batch).sequences.tolist() == alone["h2o"]
        assert second.report().tokens == [[[17, 17]] * 2]
        with pytest.raises(ConfigError, match="one of this model since h2o was attached, got RequestCache"):
            generated(other, batch | {CACHE: one(**batch)[CACHE]})


@pytest.mark.parametrize("method", ["snapkv", "h2o", "tova"])
def test_several_questions_go_to_one_context(method):
    model, context = make_model(), make_batch((60,))["input_ids"]
    with attach(model, method, tokens=16, **NARROW.get(method, {})):
        cache = model(input_ids=context)[CACHE]
        before = kept(cache)
        for seed in (1, 2):
            question = {"input_ids": torch.cat([context, make_batch((6,), seed)["input_ids"]], 1)}
            answers = [generated(model, question | {CACHE: x}) for x in (cache.copy(), copy.deepcopy(cache))]
            fresh = generated(model, question | {CACHE: model(input_ids=context)[CACHE]})
            assert_same(answers[0], fresh)
            assert_same(answers[1], fresh)
        assert kept(cache) == before
        assert cache.tokens == 60


def test_without_a_cache_the_plain_attention_runs():
    model, batch = make_model(), make_batch()
    truth = generated(model, batch, use_cache=False)
    plain = model(**batch, use_cache=False)
    with attach(model, "snapkv", tokens=4):
        assert generated(model, batch, use_cache=False).sequences.tolist() == truth.sequences.tolist()
        assert torch.equal(model(**batch, use_cache=False).logits, plain.logits)


@pytest.mark.parametrize("method", METHODS)
def test_prompts_shorter_than_what_is_protected(method):
    model, batches = make_model(), [make_batch((length,)) for length in (1, 2, 5)]
    truths = [generated(model, batch, tokens=4) for batch in batches]
    with attach(model, method, tokens=64):
        for batch, truth in zip(batches, truths, strict=True):
            assert_same(generated(model, batch, tokens=4), truth)


def test_of_no_tokens_transformers_says_what_it_says():
    model, said = make_model(), []
    for call in (
        lambda: model(input_ids=torch.zeros(1, 0, dtype=torch.long)),
        lambda: model.generate(max_new_tokens=2),
    ):
        for attached in (False, True):
            handle = attach(model) if attached else None
            with pytest.raises(Exception) as error:  # noqa: PT011
                call()
            said.append((type(error.value), str(error.value)))
            if handle:
                handle.detach()
    assert said[0] == said[1]
    assert said[2] == said[3]


def test_nothing_is_differentiated():
    model = make_model().requires_grad_(True)
    with attach(model):
        assert not model(**make_batch()).logits.requires_grad
    assert model(**make_batch()).logits.requires_grad


def test_several_samples_of_one_prompt_are_rows():
    model, batch = make_model(), make_batch((30,))
    with attach(model, "snapkv", tokens=8) as handle:
        torch.manual_seed(0)
        generated(model, batch, do_sample=True, num_return_sequences=3)
        assert len(handle.report().tokens) == 3


def test_a_report_warns_of_what_runs_on_plain_code(monkeypatch):
    monkeypatch.setattr("pcbench.methods.eviction.plan.LARGEST_CAPACITY", 16)
    model, batch, said = make_model(), make_batch((60, 41)), []
    for tokens in (16, 20):
        with attach(model, "snapkv", tokens=tokens) as handle:
            model(**batch)
            said.append(handle.report().warnings)
    assert said == [[], ["a selection of 20 tokens by the reference's code, compiled code ranks 16"]]
