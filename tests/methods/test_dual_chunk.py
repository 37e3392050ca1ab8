"""Dual chunk attention as a method: numbers of its presets, equality with its definition, chunks that are chosen."""

from dataclasses import replace

import pytest
import torch
from plain_dual_chunk import plain_logits
from tiny import continued, make_prompt, make_runner
from torch.utils._python_dispatch import TorchDispatchMode

from pcbench.errors import ConfigError
from pcbench.methods.dual_chunk import DualChunk
from pcbench.methods.dual_chunk import method as dual_chunk
from pcbench.methods.dual_chunk.chunks import Choice
from pcbench.methods.full import Full
from pcbench.models.runner import HFRunner
from pcbench.types import no_stages

S, P = 16, 24
# of 3 chunks and a half, counted with the steps of an answer
CONTEXT, STEPS = 45, 3
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
ROPES = {
    "linear": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    "yarn": YARN,
    "llama3": YARN | {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "larger base": {"rope_type": "default", "rope_theta": 500000.0},
}


def resolved(runner, **config):
    return DualChunk.Config(**config).resolve(runner.spec, "cpu")


def method(runner, **config):
    return DualChunk(resolved(runner, **({"period": S, "clip": P} | config)), runner)


@pytest.mark.parametrize("more", [{}, {"gain": "yarn", "trained_tokens": 20}, {"keep_chunks": 1, "tile_rows": 6}])
def test_a_prompt_is_read_in_parts_to_the_same_logits_and_rows(more, monkeypatch):
    runner = make_runner()
    prompt = make_prompt(context=3 * CONTEXT, new_tokens=STEPS + 1)
    whole, logits, _ = continued(method(runner, **more), prompt, STEPS)
    rows = method(runner, **more).rows(prompt)
    monkeypatch.setattr(dual_chunk, "AT_ONCE", 20)
    parts, same, _ = continued(method(runner, **more), prompt, STEPS)
    assert parts.kv_bytes == whole.kv_bytes == parts.kv_bytes_predicted
    assert parts.kv_bytes_prompt == whole.kv_bytes_prompt
    torch.testing.assert_close(same, logits, rtol=1e-4, atol=1e-5)
    if rows is not None:
        torch.testing.assert_close(method(runner, **more).rows(prompt), rows, rtol=1e-4, atol=1e-5)


def test_what_a_forward_computes_is_of_a_part_of_the_prompt(monkeypatch):
    runner = make_runner()
    monkeypatch.setattr(dual_chunk, "AT_ONCE", 20)
    # made by a short forward
    assert runner.rotary
    counts, forward = [], HFRunner.forward

    def counting(self, ids, *args):
        counts.append(ids.numel())
        return forward(self, ids, *args)

    monkeypatch.setattr(HFRunner, "forward", counting)
    prompt = make_prompt(context=CONTEXT, new_tokens=1)
    method(runner).prefill(prompt, no_stages)
    assert max(counts) == 20
    assert sum(counts) == text(prompt, []).numel()


def text(prompt, tokens):
    return torch.cat([prompt.prefix, prompt.context, prompt.query, torch.tensor(tokens, dtype=torch.int64)])[None]


@torch.no_grad()
def assert_plain(runner, *numbers, config, **more):
    """Prefill and a few steps are what the definition says."""
    prompt = make_prompt(context=CONTEXT, new_tokens=STEPS + 1)
    prefilled, logits, tokens = continued(method(runner, **config), prompt, STEPS)
    truth = plain_logits(runner, text(prompt, tokens), *numbers, **more)[0, -STEPS - 1 :]
    torch.testing.assert_close(logits, truth, rtol=1e-4, atol=1e-4)
    return prefilled


@pytest.mark.parametrize(
    ("preset", "trained", "period", "clip"),
    [
        ("paper", 4096, 3072, 4095),
        ("repo", 4096, 2560, 3072),
        ("repo16", 4096, 2816, 3072),
        ("ppl", 4096, 2048, 3072),
        ("repo", 32384, 20240, 24288),
    ],
)
def test_presets_are_the_published_numbers(preset, trained, period, clip):
    found = resolved(make_runner(), preset=preset, trained_tokens=trained)
    assert (found.period, found.clip, found.trained_tokens, found.gain) == (period, clip, trained, "none")


def test_numbers_come_from_whoever_is_nearest():
    qwen = {"chunk_size": 262144, "local_size": 8192, "original_max_position_embeddings": 262144}
    own = make_runner("qwen2", dual_chunk_attention_config=qwen)
    numbers = lambda found: (found.period, found.clip, found.trained_tokens, found.gain)  # noqa: E731
    assert numbers(resolved(own)) == (253952, 262144, 262144, "yarn")
    assert numbers(resolved(own, gain="none", clip=300000)) == (253952, 300000, 262144, "none")
    assert numbers(resolved(own, preset="paper")) == (384, 511, 512, "none")
    assert numbers(resolved(make_runner())) == (384, 511, 512, "none")
    plain = make_runner("qwen2", dual_chunk_attention_config={"chunk_size": 96})
    with pytest.raises(ConfigError, match="1 ≤ period ≤ clip, got -928 and 96; set both"):
        resolved(plain)
    again = resolved(own)
    assert again.resolve(own.spec, "cpu") == again


@pytest.mark.parametrize(
    ("said", "config"),
    [
        ("period and clip: 1 ≤ period ≤ clip, got 64 and 63; set both", {"period": 64, "clip": 63}),
        ("period and clip: 1 ≤ period ≤ clip, got 1 and 0; set both", {"trained_tokens": 1, "period": 1}),
        ("clip: at most 4194304 positions, got 2147483647; set a smaller one", {"clip": 2**31 - 1}),
        ("preset: another than model, as the config of llama has no dual_chunk", {"preset": "model"}),
    ],
)
def test_numbers_that_mean_nothing_are_refused_in_one_line(said, config):
    with pytest.raises(ConfigError, match=f"dual_chunk: {said}") as error:
        resolved(make_runner(), **config)
    assert "\n" not in str(error.value)


def test_a_config_of_other_things_is_refused():
    with pytest.raises(
        ConfigError, match=r"a dual_chunk_attention_config of whole numbers .* got \{'chunk_size': 1.5\}"
    ):
        make_runner("qwen2", dual_chunk_attention_config={"chunk_size": 1.5})


@pytest.mark.parametrize("gain", ["none", "yarn", "half-yarn"])
def test_prefill_and_decoding_are_the_definition(gain, backend):
    factor = {"none": 0.0, "yarn": 0.1, "half-yarn": 0.05}[gain]
    config = {"gain": gain, "trained_tokens": 20}
    prefilled = assert_plain(make_runner(backend=backend), S, P, factor, 20, config=config)
    assert prefilled.kv_bytes == prefilled.kv_bytes_predicted == 2 * 2 * 2 * 64 * 4 * (CONTEXT + 10 + STEPS + 1)
    assert prefilled.kv_bytes_prompt == 2 * 2 * 2 * 64 * 4 * (CONTEXT + 10)
    assert prefilled.kept_tokens() == CONTEXT + 3


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("cohere", {}),
        ("glm", {"partial_rotary_factor": 0.5}),
        ("smollm3", {"no_rope_layers": [1, 0]}),
        ("nanochat", {"final_logit_softcapping": None}),
        ("llama", {"num_attention_heads": 8, "num_key_value_heads": 1}),
        *(("llama", {"rope_parameters": rope}) for rope in ROPES.values()),
    ],
)
def test_every_rotation_and_grouping(family, changes):
    assert_plain(make_runner(family, **changes), S, P, config={})


@pytest.mark.parametrize(("period", "clip"), [(48, 63), (16, 40), (64, 64)])
def test_up_to_the_clip_it_is_full_attention(period, clip, backend):
    runner, most = make_runner(backend=backend), min(clip + 1, 2 * period)
    for more, same in ((0, True), (1, False)):
        prompt = make_prompt(context=most + more - 10, new_tokens=1)
        ours = method(runner, period=period, clip=clip).prefill(prompt, no_stages).logits
        truth = Full(Full.Config(), runner).prefill(prompt, no_stages).logits
        assert torch.allclose(ours, truth, rtol=1e-4, atol=1e-4) == same
        assert not same or ours.argmax() == truth.argmax()


@pytest.mark.parametrize("score", ["mean", "max", "lse"])
def test_keeping_all_chunks_is_dense_and_keeping_none_leaves_the_middle_out(score, backend):
    runner = make_runner(backend=backend)
    config = {"period": 8, "clip": 12, "score": score, "tile_rows": 5}
    assert_plain(runner, 8, 12, config=config | {"keep_chunks": 99})
    i = torch.arange(CONTEXT + 10 + STEPS)
    near = (i // 8)[:, None] - i // 8 <= 1
    assert_plain(runner, 8, 12, seen=near | (i < 8), config=config | {"keep_chunks": 0})


@pytest.mark.parametrize("score", ["mean", "max", "lse"])
def test_chunks_are_those_with_the_best_scores_however_a_text_is_read(score):
    """One query a tile: what it reads does not depend on what is read with it."""
    runner, seen = make_runner(), []
    config = resolved(runner, period=8, clip=12, keep_chunks=2, score=score, tile_rows=1, gain="yarn", trained_tokens=9)
    ids = torch.randint(0, 300, (1, 70), generator=torch.Generator().manual_seed(3))

    def read(*parts):
        seen.append([])
        store = runner.new_ragged_store(dual_segments(runner, parts[0]))
        plan, logits, start = DualChunk.plan(config, runner.spec, runner.rotary), [], 0
        for count in parts:
            positions = torch.arange(start, start + count)[None] % 8
            lengths = torch.tensor([count], dtype=torch.int32)
            hidden = watching.forward(ids[:, start : start + count], positions, lengths, store, plan)
            logits.append(runner.logits(hidden[0]))
            plan, start = plan.later() if start == 0 else plan, start + count
        return torch.cat(logits)

    watching = replace(runner, ops=Watching(runner.ops, seen))
    whole, *others = read(70), read(33, 1, 1, 20, 15), read(1, 40, 29)
    for other in others:
        torch.testing.assert_close(other, whole, rtol=1e-4, atol=1e-4)
    for q, k, options in seen[0]:
        assert options["chunks"].tolist() == by_hand(runner, q, k, options, score)


def dual_segments(runner, count):
    from pcbench.methods.dual_chunk import all_of

    return all_of([count], runner.spec, 70 - count)


class Watching:
    """Ops that remember what they were given, by layer."""

    def __init__(self, ops, seen):
        self.ops, self.backend, self.seen = ops, ops.backend, seen

    def dual_chunk_attention(self, q, k_rows, v_rows, starts, lengths, **options):
        keys = [
            [k_rows[s : s + n] for s, n in zip(*row, strict=True)]
            for row in zip(starts.tolist(), lengths.tolist(), strict=True)
        ]
        self.seen[-1].append(
            (q, torch.stack([torch.stack(row) for row in keys]), options | {"layer": len(self.seen[-1])})
        )
        return self.ops.dual_chunk_attention(q, k_rows, v_rows, starts, lengths, **options)


class Largest(TorchDispatchMode):
    """The most elements of what an operation inside gives."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.elements = max(self.elements, out.numel())
        return out


@pytest.mark.parametrize("score", ["mean", "max"])
def test_new_keys_are_summed_up_a_few_chunks_at_a_time(score):
    choice = Choice(keep=1, score=score, tile_rows=1, period=8, clip=12, scale=1.0, rotary=None)
    k = torch.randn(1, 2, 50 * 8, 16).bfloat16()
    with Largest() as largest:
        choice.add(0, k, torch.zeros(1, dtype=torch.int64), torch.tensor([400]), 400)
    assert 0 < largest.elements < k.numel() / 3
    keys = k[0].float().unflatten(1, (50, 8))
    truth = keys.sum(2) if score == "mean" else torch.cat([keys.amax(2), (-keys).amax(2)], -1)
    torch.testing.assert_close(choice.tables[0][0, :, :50], truth)


def by_hand(runner, q, k, options, score):
    """[1, Hkv, T, 3] of a prompt whose queries are tiles, q [1, H, T, D] and k [1, Hkv, T, D]."""
    found, group = [[[] for _ in range(k.shape[1])]], q.shape[1] // k.shape[1]
    for head in range(k.shape[1]):
        for i in range(q.shape[2]):
            n, worth = i // 8, {}
            turned = runner.rotary.rotated(options["layer"], q[0, :, i], torch.tensor(12 - i % 8))
            for chunk in range(1, n - 1):
                keys = k[0, head, 8 * chunk : 8 * chunk + 8]
                logits = turned[head * group : (head + 1) * group] @ keys.T * runner.spec.scale
                if score == "mean":
                    each = logits.mean(1)
                elif score == "lse":
                    each = (logits * options["gains"][0, i]).logsumexp(1)
                else:
                    one = turned[head * group : (head + 1) * group]
                    each = torch.maximum(one * keys.amax(0), one * keys.amin(0)).sum(1)
                worth[chunk] = float(each.max())
            best = sorted(sorted(worth, key=worth.get)[-2:])
            found[0][head].append([0, *best, *[-1] * (2 - len(best))])
    return found
