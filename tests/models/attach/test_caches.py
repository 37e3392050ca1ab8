"""Requests that are stopped, given an empty cache twice, taken back too far, or run in several threads."""

import threading

import pytest
import torch
from tiny import make_runner
from transformers.cache_utils import DynamicCache

from pcbench import attach
from pcbench.errors import ConfigError
from pcbench.models.interface import CACHE

METHODS = {"dual_chunk": {"period": 8, "clip": 12}, "snapkv": {"tokens": 100}}


def make_ids(count, seed=0):
    return torch.randint(1, 300, (1, count), generator=torch.Generator().manual_seed(seed))


def stop(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("method", METHODS)
def test_what_a_stopped_forward_has_half_read_is_not_read_on(method):
    model, ids, more = make_runner().model, make_ids(30), make_ids(5, seed=1)
    with attach(model, method, **METHODS[method]), torch.no_grad():
        cache = model(input_ids=ids)[CACHE]
        twin = cache.copy()
        # before any layer has read anything, and behind the first one
        for part, request in ((model.model.embed_tokens, cache), (model.model.layers[1], twin)):
            hook = part.register_forward_pre_hook(stop)
            with pytest.raises(KeyboardInterrupt):
                model(input_ids=more, **{CACHE: request})
            hook.remove()
        whole = model(input_ids=torch.cat([ids, more], 1)).logits[:, -5:]
        torch.testing.assert_close(model(input_ids=more, **{CACHE: cache}).logits, whole, rtol=1e-4, atol=1e-4)
        with pytest.raises(ConfigError, match=r"a cache whose last forward came to its end, got .*; start without a"):
            model(input_ids=more, **{CACHE: twin})


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_cache_stays_empty_and_is_no_request_to_go_on_from(method):
    model, ids = make_runner().model, make_ids(30)
    options = {"do_sample": False, "pad_token_id": 0, "max_new_tokens": 6}
    with attach(model, method, **METHODS[method]), torch.no_grad():
        given, truth = DynamicCache(), model.generate(input_ids=ids, **options)
        # generate says by its positions that a text begins
        for _ in range(2):
            assert model.generate(input_ids=ids, **options, **{CACHE: given}).tolist() == truth.tolist()
        with pytest.raises(ConfigError, match="got the empty one that it was given; go on from that of its output"):
            model(input_ids=truth[:, -1:], **{CACHE: given})


def test_a_row_without_tokens_has_nothing_to_go_on_from():
    model, ids, mask = make_runner().model, make_ids(30).expand(2, -1), torch.ones(2, 30, dtype=torch.int64)
    mask[1, :20] = 0
    with attach(model, "dual_chunk", **METHODS["dual_chunk"]), torch.no_grad():
        cache = model(input_ids=ids, attention_mask=mask)[CACHE]
        for count in (-10, -31):
            with pytest.raises(ConfigError, match=r"a token that stays in every row, got a cache .*; start without"):
                cache.crop(count)
        cache.crop(-9)
        mask = mask[:, :26]
        again = model(input_ids=ids[:, 21:26], attention_mask=mask, **{CACHE: cache}).logits
        whole = model(input_ids=ids[:, :26], attention_mask=mask).logits[:, -5:]
        torch.testing.assert_close(again, whole, rtol=1e-4, atol=1e-4)


def test_what_is_read_and_taken_back_again_and_again_takes_no_room():
    model, ids = make_runner().model, make_ids(30)
    with attach(model, "dual_chunk", **METHODS["dual_chunk"]), torch.no_grad():
        cache = model(input_ids=ids)[CACHE]
        held = cache.nbytes()
        for _ in range(30):
            model(input_ids=ids[:, :5], **{CACHE: cache})
            cache.crop(-5)
    assert cache.nbytes() == held


@pytest.mark.parametrize("method", METHODS)
def test_forwards_of_several_threads_come_one_after_another(method):
    model, ids, found = make_runner().model, make_ids(30), []
    inside, over = threading.Event(), threading.Event()
    other = threading.Thread(target=lambda: found.append(model(input_ids=ids).logits))

    def meet(*_):
        """The first forward ends while the other is between its layers, if it gets there."""
        if threading.current_thread() is other:
            inside.set()
            over.wait(10)
        else:
            other.start()
            inside.wait(0.3)

    with attach(model, method, **METHODS[method]):
        truth = model(input_ids=ids).logits
        model.model.layers[1].register_forward_pre_hook(meet)
        assert torch.equal(model(input_ids=ids).logits, truth)
        over.set()
        other.join()
    assert torch.equal(found[0], truth)
    assert model.config._attn_implementation == "sdpa"
