"""The same tokens as kvpress keeps, at equal settings."""

from dataclasses import dataclass
from importlib.util import find_spec

import pytest
import torch
from tiny import make_runner

from pcbench import ops
from pcbench.methods.eviction.budgets import BestOfLayer, Uniform
from pcbench.methods.eviction.plan import PromptPlan
from pcbench.methods.eviction.policy import Policy
from pcbench.methods.eviction.scores import KeyDifference, KeyNorm, LastQuery, Nothing, Window
from pcbench.methods.expected_attention import Expected
from pcbench.methods.kvpress.method import INSTALL
from pcbench.models.catalog import load_runner
from pcbench.models.kvpress import HFPressedModel, kvpress
from pcbench.types import no_stages

if find_spec("kvpress") is None:
    pytest.skip(f"kvpress is not installed: {INSTALL}", allow_module_level=True)

RATIO, TOKENS = 0.75, 600
KEPT = int(TOKENS * (1 - RATIO))


@dataclass
class Given:
    """Budgets as they are given."""

    layers: list[int]

    def __call__(self, layer, spec, tokens, length):
        return [self.layers[layer]] * spec.kv_heads


def window(count):
    return Window(count, average=5)


CASES = {
    "snapkv": (lambda x: x.SnapKVPress(RATIO), Policy(window(64), Uniform(), recent=64)),
    "pyramidkv": (lambda x: x.PyramidKVPress(RATIO, window_size=16), Policy(window(16), Uniform(), recent=16)),
    "streaming_llm": (lambda x: x.StreamingLLMPress(RATIO), Policy(Nothing(), Uniform(), sink=4, recent=KEPT - 4)),
    "knorm": (lambda x: x.KnormPress(RATIO), Policy(KeyNorm(), Uniform())),
    "keydiff": (lambda x: x.KeyDiffPress(RATIO), Policy(KeyDifference(), Uniform())),
    "tova": (lambda x: x.TOVAPress(RATIO), Policy(LastQuery(), Uniform(), recent=1)),
    "expected_attention": (
        lambda x: x.ExpectedAttentionPress(RATIO),
        Policy(Expected(future=512, skip=4), Uniform(), sink=4, rotary=True),
    ),
    "adakv": (
        lambda x: x.AdaKVPress(x.SnapKVPress(RATIO), alpha_safeguard=0.2),
        Policy(window(64), Uniform(), recent=64, sharing=BestOfLayer(0.2)),
    ),
}


@pytest.fixture(scope="module", params=["tiny", pytest.param("smollm2-135m", marks=pytest.mark.slow)])
def runner(request):
    if request.param == "tiny":
        return make_runner(trained_tokens=1024)
    return load_runner(request.param, torch.device("cpu"), torch.float32, ops.backend("reference"))


@pytest.fixture(scope="module")
def ids(runner):
    text = (torch.__doc__ or "") + (torch.nn.__doc__ or "") + (torch.Tensor.backward.__doc__ or "") * 4
    return torch.tensor(runner.tokenizer.encode(text)[:TOKENS])


def theirs(press, runner, ids, budgets):
    """Per layer the scores [Hkv, S] that the press ranks by, and which keys it keeps [Hkv, S] bool."""
    scores, scored_by = [], getattr(press, "press", press)
    score = scored_by.score

    def noted(*args):
        found = score(*args)
        scores.append(found[0].clone())
        return found

    scored_by.score = noted
    with torch.inference_mode():
        _, held = HFPressedModel(runner, lambda _: press).compress(ids[None])
    kept = []
    for layer, (found, budget) in enumerate(zip(scores, budgets, strict=True)):
        mask = torch.ones_like(found, dtype=torch.bool)
        if layer in held.masked:
            _, head, place = held.masked[layer]
            mask[head, place] = False
        else:
            mask = torch.zeros_like(mask).scatter(1, found.topk(budget, dim=-1).indices, True)
        kept.append(mask)
    return scores, kept


def ours(policy, runner, ids, budgets):
    """Per layer which keys stay, [Hkv, S] bool."""
    spec, length = runner.spec, len(ids)
    wanted = [torch.full((1, spec.kv_heads), budget) for budget in budgets]
    segments = [policy.segments(i, x, torch.tensor([length]), 0, 1) for i, x in enumerate(wanted)]
    store = runner.new_ragged_store(segments)
    plan = PromptPlan(policy, spec, segments, no_stages, rotary=runner.rotary if policy.rotary else None)
    runner.forward(ids[None], torch.arange(length)[None], torch.tensor([length], dtype=torch.int32), store, plan)
    kept = []
    for layer in range(spec.layers):
        mask = torch.zeros(spec.kv_heads, length, dtype=torch.bool)
        for head in range(spec.kv_heads):
            start, count = int(store.starts[layer][0, head]), int(store.lengths[layer][0, head])
            mask[head, store.positions[layer][start : start + count].long()] = True
        kept.append(mask)
    return kept


@pytest.mark.parametrize("name", CASES)
def test_the_same_tokens_stay(name, runner, ids):
    make, policy = CASES[name]
    press = make(kvpress()[0])
    layers = runner.model.model.layers
    pyramid = name == "pyramidkv"
    budgets = [press.get_layer_budget(x.self_attn, TOKENS) if pyramid else KEPT for x in layers]
    scores, wanted = theirs(press, runner, ids, budgets)
    different = 0
    for layer, (score, theirs_kept, ours_kept) in enumerate(
        zip(scores, wanted, ours(policy, runner, ids, budgets), strict=True)
    ):
        assert theirs_kept.sum() == ours_kept.sum(), layer
        exchanged = theirs_kept ^ ours_kept
        different += int(exchanged.any())
        # tokens that one keeps and the other does not are worth the same, up to rounding
        if exchanged.any():
            worth = score.masked_fill(~exchanged, torch.nan)
            cut = worth.nanmedian() if name == "adakv" else worth.nanmedian(-1, keepdim=True).values
            off = ((worth - cut).abs() / (cut.abs() + score.abs().median())).nan_to_num(0.0)
            assert float(off.max()) < 1e-3, (layer, float(off.max()))
    print(f"{name}: {len(scores) - different} of {len(scores)} layers equal, the others up to ties")
