"""Dual chunk attention inside a model, in every forward."""

import copy

import pytest
import torch
from plain_dual_chunk import plain_logits
from tiny import make_runner, with_rope

from pcbench import attach
from pcbench.errors import ConfigError
from pcbench.methods.dual_chunk import plan as plans
from pcbench.models.attach.rows import read_rows
from pcbench.models.interface import CACHE

NUMBERS = {"period": 8, "clip": 12}
LENGTHS = (23, 41, 30)
KEPT = {"keep_chunks": 1, "tile_rows": 4}
BASE = {"rope_type": "default", "rope_theta": 10000.0}


def make_batch(lengths=LENGTHS, seed=0, side="left"):
    """Padded ids and their mask."""
    generator = torch.Generator().manual_seed(seed)
    count, place = torch.tensor(lengths)[:, None], torch.arange(max(lengths))
    ids = torch.randint(1, 300, (len(lengths), max(lengths)), generator=generator)
    mask = place >= max(lengths) - count if side == "left" else place < count
    return {"input_ids": ids * mask, "attention_mask": mask.long()}


def row(batch, i):
    mask = batch["attention_mask"][i].bool()
    return {name: x[i : i + 1, mask] for name, x in batch.items()}


def generated(model, batch, tokens=8, **more):
    options = {"do_sample": False, "pad_token_id": 0, "return_dict_in_generate": True, "output_logits": True}
    return model.generate(**batch, max_new_tokens=tokens, **options | more)


def close(ours, truth):
    torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-4)


def assert_same(ours, truth):
    assert ours.sequences.tolist() == truth.sequences.tolist()
    if truth.logits is not None:
        close(torch.stack(ours.logits), torch.stack(truth.logits))


def test_generate_is_the_definition_in_every_row_of_a_padded_batch():
    runner, batch = make_runner(), make_batch()
    with attach(runner.model, "dual_chunk", **NUMBERS) as handle:
        found = generated(runner.model, batch)
        assert handle.report().tokens == [[[n + 7] * 2] * 2 for n in LENGTHS]
        assert_same(generated(runner.model, batch, use_cache=False), found)
    logits = torch.stack(found.logits, 1)
    for i, length in enumerate(LENGTHS):
        ids = found.sequences[i : i + 1, 41 - length :]
        close(logits[i], plain_logits(runner, ids, 8, 12)[0, -9:-1])


@pytest.mark.parametrize("more", [{}, KEPT], ids=["all", "kept"])
def test_a_text_goes_on_as_if_it_had_been_read_at_once(more):
    model, batch = make_runner().model, make_batch()
    with attach(model, "dual_chunk", **NUMBERS, **more | ({"tile_rows": 1} if more else {})):
        first = generated(model, batch)
        ids = torch.cat([first.sequences, make_batch((5,) * 3, seed=9)["input_ids"]], 1)
        mask = torch.cat([batch["attention_mask"], torch.ones(3, ids.shape[1] - 41, dtype=torch.long)], 1)
        whole = {"input_ids": ids, "attention_mask": mask}
        fresh = generated(model, whole)
        caches = [first[CACHE].copy(), copy.deepcopy(first[CACHE]), first[CACHE]]
        for cache in caches:
            assert_same(generated(model, whole | {CACHE: cache}), fresh)
        for i in range(3):
            alone = generated(model, row(whole, i))
            assert alone.sequences[0, -8:].tolist() == fresh.sequences[i, -8:].tolist()


@pytest.mark.parametrize("more", [{}, KEPT], ids=["all", "kept"])
def test_beams_are_those_of_a_model_without_a_cache(more):
    model, batch = make_runner().model, make_batch((30, 26))
    # long enough for chunks of the answers to be chosen
    options = {"num_beams": 3, "tokens": 28 if more else 12, "output_logits": False}
    with attach(model, "dual_chunk", **NUMBERS, **more | ({"tile_rows": 1} if more else {})):
        assert_same(generated(model, batch, **options), generated(model, batch, **options, use_cache=False))


def test_guessed_tokens_are_taken_back():
    model, ids = make_runner().model, make_batch((12,))["input_ids"].repeat(1, 4)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with attach(model, "dual_chunk", **NUMBERS):
        guessed = generated(model, batch, 24, prompt_lookup_num_tokens=3)
        assert guessed.sequences.tolist() == generated(model, batch, 24).sequences.tolist()
    with (
        attach(model, "dual_chunk", **NUMBERS, **KEPT),
        pytest.raises((ValueError, ConfigError), match=r"crop|keep_chunks"),
    ):
        generated(model, batch, prompt_lookup_num_tokens=3)


@pytest.mark.parametrize("side", ["left", "right"])
def test_without_a_cache_padding_may_be_at_either_side(side):
    runner, batch = make_runner(), make_batch(side=side)
    with attach(runner.model, "dual_chunk", **NUMBERS):
        logits = runner.model(**batch, use_cache=False).logits
    for i in range(len(LENGTHS)):
        truth = plain_logits(runner, row(batch, i)["input_ids"], 8, 12)[0]
        close(logits[i, batch["attention_mask"][i].bool()], truth)


@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_of_a_padded_batch_choose_the_chunks_that_they_choose_alone(side):
    """Where a row ends in the middle of a tile, too."""
    model, batch = make_runner().model, make_batch((45, 61), side=side)
    with attach(model, "dual_chunk", **NUMBERS, keep_chunks=1, tile_rows=16), torch.no_grad():
        logits = model(**batch, use_cache=False).logits
        for i in range(2):
            alone = model(**row(batch, i), use_cache=False).logits[0]
            close(logits[i, batch["attention_mask"][i].bool()], alone)


@pytest.mark.parametrize("more", [{}, {"keep_chunks": 99, "tile_rows": 3, "gain": "yarn", "trained_tokens": 16}])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_the_definition(training, more, monkeypatch):
    monkeypatch.setattr(plans, "BLOCK", 7)
    runner = make_runner()
    model, batch = runner.model.requires_grad_(True), make_batch((23, 41), side="right" if training else "left")
    weights = torch.randn(2, 41, 300, generator=torch.Generator().manual_seed(1))
    weights *= batch["attention_mask"][..., None]

    def gradients(logits):
        model.zero_grad()
        (logits * weights).sum().backward()
        return [p.grad.double() for p in model.parameters()]

    parts = []
    gain = (0.1, 16) if "gain" in more else ()
    for i in range(2):
        mask = batch["attention_mask"][i].bool()
        parts.append((plain_logits(runner, row(batch, i)["input_ids"], 8, 12, *gain)[0] * weights[i, mask]).sum())
    model.zero_grad()
    sum(parts).backward()
    truth = [p.grad.double() for p in model.parameters()]
    with attach(model.train(training), "dual_chunk", **NUMBERS, **more):
        output = model(**batch)
        ours = gradients(output.logits)
    assert (getattr(output, CACHE) is None) == training
    for one, other in zip(ours, truth, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()
    assert model.training == training


@pytest.mark.parametrize("more", [{}, KEPT | {"score": "mean"}])
def test_checkpointed_layers_have_the_same_gradients(more):
    """They run a second time when the forward has returned."""
    model, batch, found = make_runner().model.requires_grad_(True).train(), make_batch(), []
    with attach(model, "dual_chunk", **NUMBERS, **more):
        for checkpointed in (False, True):
            if checkpointed:
                _checkpointed(model)
            model.zero_grad()
            model(**batch).logits.square().sum().backward()
            found.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("tile_rows", [3, 9, 50])
def test_blocks_of_queries_read_what_their_tiles_read(tile_rows, monkeypatch):
    """Tiles of more queries than a block has, too."""
    monkeypatch.setattr(plans, "BLOCK", 7)
    model, batch = make_runner().model.requires_grad_(True), make_batch((23, 61), side="right")
    with attach(model, "dual_chunk", **NUMBERS, keep_chunks=1, tile_rows=tile_rows):
        found = model(**batch, use_cache=False).logits
        with torch.no_grad():
            truth = model(**batch, use_cache=False).logits
    assert found.requires_grad
    close(*(x[batch["attention_mask"].bool()] for x in (found, truth)))


def test_what_a_training_step_remembers_grows_with_the_text_not_its_square():
    model, sizes = make_runner().model.requires_grad_(True).train(), []

    def kept(x):
        held[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with attach(model, "dual_chunk", **NUMBERS), torch.autograd.graph.saved_tensors_hooks(kept, lambda x: x):
        for tokens in (300, 600):
            held = {}
            output = model(input_ids=torch.ones(1, tokens, dtype=torch.long))
            sizes.append(sum(held.values()))
    assert output.logits.requires_grad
    assert sizes[1] <= 2 * sizes[0]


@pytest.mark.parametrize("method", ["dual_chunk", "rope_scaling"])
def test_training_goes_on_from_inference(method):
    model, batch = make_runner().model.requires_grad_(True), make_batch()
    with torch.inference_mode():
        handle = attach(model, method, **(NUMBERS if method == "dual_chunk" else {}))
        truth = model(**batch).logits
    with handle:
        logits = model(**batch).logits
        logits.square().mean().backward()
    close(logits, truth)


def test_what_is_cached_has_no_gradient():
    model = make_runner().model.requires_grad_(True)
    with attach(model, "dual_chunk", **NUMBERS):
        output = model(**make_batch())
        assert output.logits.requires_grad
        assert not any(x.requires_grad for x in (*output[CACHE].k, *output[CACHE].v))
        again = model(
            input_ids=torch.ones(3, 1, dtype=torch.long), attention_mask=_longer(make_batch()), **{CACHE: output[CACHE]}
        )
        assert not again.logits.requires_grad


def _longer(batch):
    return torch.nn.functional.pad(batch["attention_mask"], (0, 1), value=1)


def test_two_models_have_their_own_numbers_and_detaching_leaves_no_trace():
    one, other = make_runner(), make_runner("qwen2")
    long, short = make_batch((60,)), make_batch((9,), seed=2)
    before = [generated(x.model, long) for x in (one, other)]
    names, config = dict(vars(one.model)), one.model.config.to_dict()
    with attach(one.model, "dual_chunk", **NUMBERS), attach(other.model, "dual_chunk", period=16, clip=20):
        for runner, numbers in ((one, (8, 12)), (other, (16, 20)), (one, (8, 12))):
            for batch in (long, short):
                found = generated(runner.model, batch, 2)
                truth = plain_logits(runner, found.sequences, *numbers)[0, -3:-1]
                close(torch.stack(found.logits, 1)[0], truth)
    assert vars(one.model).keys() == names.keys()
    assert one.model.config.to_dict() == config
    for runner, truth in zip((one, other), before, strict=True):
        again = generated(runner.model, long)
        assert torch.equal(torch.stack(again.logits), torch.stack(truth.logits))


def test_frequencies_that_move_with_the_length_stay():
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    plain = make_runner(trained_tokens=128, rope_parameters=dict(BASE)).model
    moving = with_rope(plain, rope)
    batch = make_batch((150,))
    # they have moved before
    moving(**batch)
    with attach(moving, "dual_chunk"), attach(plain, "dual_chunk"):
        assert_same(generated(moving, batch), generated(plain, batch))
    with pytest.raises(ConfigError, match=r"a period of at most the 128 positions .* got 129; set a smaller one"):
        attach(moving, "dual_chunk", period=129, clip=140)
    with pytest.raises(ConfigError, match=r"dynamic rotary scaling"):
        attach(moving, "snapkv")


REFUSED = {
    "attention without weights, got output_attentions": lambda model: model(**make_batch(), output_attentions=True),
    "padding at the left alone, got another": lambda model: model(**make_batch(side="right")),
    "tokens of a row side by side, got padding among them": lambda model: model(
        input_ids=torch.ones(1, 3, dtype=torch.long), attention_mask=torch.tensor([[1, 0, 1]]), use_cache=False
    ),
    "attention without dropout, got 0.1 in train mode": lambda model: _dropping(model)(**make_batch()),
    "no cache while layers are checkpointed": lambda model: _checkpointed(model)(**make_batch(), use_cache=True),
}


def _dropping(model):
    model.model.layers[1].self_attn.attention_dropout = 0.1
    return model.train()


def _checkpointed(model):
    # its name since transformers 5.24
    name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    getattr(model, f"{name}_checkpointing_enable")()
    return model.train()


@pytest.mark.parametrize("said", REFUSED)
def test_what_a_forward_cannot_do_is_refused_in_one_line(said):
    model = make_runner().model
    with attach(model, "dual_chunk", **NUMBERS), pytest.raises(ConfigError, match=f"^attach: .*{said}") as error:
        REFUSED[said](model)
    assert "\n" not in str(error.value)


def test_its_turns_lie_where_the_model_has_been_moved():
    runner = make_runner()
    with attach(runner.model, "dual_chunk", **NUMBERS) as handle:
        rows = read_rows(torch.arange(5)[None], None, None, None)
        before = handle._plan(rows).rotary
        runner.model.to("meta")
        after = handle._plan(rows).rotary
    assert [x.table(0, 12)[0].device.type for x in (before, after)] == ["cpu", "meta"]
    # layers that turn alike still share a table
    assert [len({id(turn) for turn in x.turns}) for x in (before, after)] == [1, 1]
    assert handle._plan(rows).rotary is after
