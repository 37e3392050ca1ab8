"""StreamingLLM's positions inside the cache, against attention that is computed anew at those positions."""

import pytest
import torch
from tiny import make_prompt, make_runner
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from pcbench.methods.streaming_llm import StreamingLLM
from pcbench.types import no_stages

TOKENS, SINK, STEPS = 12, 4, 30


class Projections:
    """What each attention layer of a llama projects, token by token, and what it gives to its output projection."""

    def __init__(self, model):
        self.model, self.rows, self.outs = model, [[] for _ in model.model.layers], [[] for _ in model.model.layers]
        for i, layer in enumerate(model.model.layers):
            for name in ("q_proj", "k_proj", "v_proj"):
                getattr(layer.self_attn, name).register_forward_hook(
                    lambda module, args, out, i=i: self.rows[i].append(out[0])
                )
            layer.self_attn.o_proj.register_forward_pre_hook(lambda module, args, i=i: self.outs[i].append(args[0][0]))

    def of(self, layer):
        """[heads, T, D] of queries, keys and values before rotary embedding, and [T, H·D] of the attention."""
        q, k, v = (torch.cat(self.rows[layer][i::3]).unflatten(1, (-1, 64)).transpose(0, 1) for i in range(3))
        return q, k, v, torch.cat(self.outs[layer])


def attention_inside_the_cache(model, q, k, v, now):
    """Of token `now`, over sinks and window, with positions 0, 1, 2 … in what is kept."""
    kept = [*range(SINK), *range(max(SINK, now + 1 - (TOKENS + 1 - SINK)), now + 1)]
    places = torch.arange(len(kept))[None]
    cos, sin = model.model.rotary_emb(k, places)
    k, v = k[:, kept], v[:, kept]
    keys, _ = apply_rotary_pos_emb(k[None], k[None], cos, sin)
    query, _ = apply_rotary_pos_emb(q[None, :, now, None], q[None, :, now, None], cos[:, -1:], sin[:, -1:])
    group = q.shape[0] // k.shape[0]
    scores = (query @ keys.repeat_interleave(group, 1).mT)[0] * 64**-0.5
    return (scores.softmax(-1) @ v.repeat_interleave(group, 0)).flatten()


@torch.inference_mode()
def decoded(runner, positions, context=100, compress="prompt", decode="evict"):
    config = StreamingLLM.Config(tokens=TOKENS, positions=positions, compress=compress, decode=decode)
    method = StreamingLLM(config.resolve(runner.spec, "cpu"), runner)
    prefilled = method.prefill(make_prompt(context=context), no_stages)
    logits = [method.step(prefilled, torch.tensor([i * 11 % 300])) for i in range(STEPS)]
    return torch.cat(logits), prefilled


@pytest.mark.parametrize("context", [100, 1000])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_decoding_is_attention_at_the_positions_inside_the_cache(context, backend):
    runner = make_runner(backend=backend, trained_tokens=64)
    # found once before anything is watched
    _ = runner.rotary
    seen = Projections(runner.model)
    logits, prefilled = decoded(runner, "renumbered", context)
    assert logits.isfinite().all()
    prompt = context + 10
    for layer in range(2):
        q, k, v, outs = seen.of(layer)
        for now in range(prompt, prompt + STEPS):
            truth = attention_inside_the_cache(runner.model, q, k, v, now)
            torch.testing.assert_close(outs[now], truth, rtol=1e-3, atol=1e-3)
    assert prefilled.kv_bytes == prefilled.kv_bytes_predicted == prefilled.state.store.nbytes()
    # the keys of the sinks as they were read are held beside the arena
    assert prefilled.kv_bytes == 2 * 2 * 64 * 4 * (2 * (TOKENS + 1) + SINK)


def test_kept_positions_are_another_attention():
    runner = make_runner()
    kept, renumbered = (decoded(runner, positions)[0] for positions in ("kept", "renumbered"))
    assert not torch.allclose(kept, renumbered, atol=1e-2)


@pytest.mark.parametrize("decode", ["evict", "grow"])
def test_a_question_is_read_at_the_positions_inside_the_cache(decode):
    runner = make_runner()
    logits, prefilled = decoded(runner, "renumbered", compress="context", decode=decode)
    store = prefilled.state.store
    for layer in range(2):
        # as if they stood right before the oldest of the window
        gone = int(store.seen[0] - store.lengths[layer][0, 0])
        assert gone == (103 - TOKENS + (STEPS - 1 if decode == "evict" else 0))
        keys = store.k[layer][int(store.starts[layer][0, 1])][None]
        truth = runner.rotary.rotated(layer, store.aside[layer][0, 1, :1], torch.tensor(gone))
        torch.testing.assert_close(keys, truth)
    assert logits.isfinite().all()


def test_without_sinks_nothing_moves():
    runner = make_runner()
    config = StreamingLLM.Config(tokens=TOKENS, sink=0).resolve(runner.spec, "cpu")
    assert config.policy(runner.spec, TOKENS).placing is None


def test_sinks_of_16_bits_do_not_drift():
    runner = make_runner(dtype=torch.bfloat16)
    _, prefilled = decoded(runner, "renumbered")
    store = prefilled.state.store
    gone = store.seen[0] - store.lengths[0][0, 0]
    place = int(store.starts[0][0, 0])
    assert torch.equal(store.k[0][place : place + SINK], runner.rotary.rotated(0, store.aside[0][0, 0], gone))
