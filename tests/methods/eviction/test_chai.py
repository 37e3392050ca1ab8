"""CHAI: clusters of heads, keys that are stored once, and a plain recomputation with shared queries and keys."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from pcbench import attach, ops
from pcbench.config import validate
from pcbench.errors import ConfigError
from pcbench.measure.watch import WatchedRunner
from pcbench.methods.chai import CHAI
from pcbench.methods.eviction import Policy
from pcbench.methods.eviction.budgets import Uniform
from pcbench.methods.eviction.decoding import Oldest
from pcbench.methods.eviction.heads import FirstTokens, linked
from pcbench.methods.eviction.placing import Renumbered
from pcbench.methods.eviction.scores import Nothing
from pcbench.methods.full import Full
from pcbench.models import model_spec
from pcbench.models.interface import CACHE
from pcbench.types import Segments
from tests.methods.eviction.test_methods import answered
from tests.models.attach.test_attached import assert_same, continued, generated, make_batch, make_model, row
from tests.tiny import make_prompt, make_runner

# query heads and kv-heads by the size of a group
HEADS = {1: (4, 4), 3: (12, 4), 8: (32, 4)}


def make(runner, **values):
    return CHAI(CHAI.Config(**values).resolve(runner.spec, "cpu"), runner)


def of_group(group, **changes):
    heads, kv_heads = HEADS[group]
    return make_runner(num_attention_heads=heads, num_key_value_heads=kv_heads, **changes)


def plain_heads(q, k, scale, count, causal=True):
    """Whose attention each kv-head takes, for one row: mean distances of all pairs, again for every merge."""
    group = q.shape[0] // k.shape[0]
    features = []
    for head in range(k.shape[0]):
        scores = q[head * group : (head + 1) * group, :5].double() @ k[head, :5].double().T * scale
        if causal:
            scores = scores + torch.full(scores.shape[1:], -torch.inf, dtype=torch.float64).triu(1)
        features.append(scores.softmax(-1).flatten())
    clusters = [[head] for head in range(len(features))]

    def apart(pair):
        far = [1 - torch.cosine_similarity(features[i], features[j], dim=0) for i in pair[0] for j in pair[1]]
        return float(sum(far)) / len(far)

    while len(clusters) > count:
        one, other = min(combinations(clusters, 2), key=apart)
        clusters.remove(other)
        one += other
    heads = [0] * len(features)
    for cluster in clusters:
        for head in cluster:
            heads[head] = min(cluster)
    return heads


def plain_logits(runner, ids, clusters, prompt, causal=True):
    """Logits of the tokens from the prompt's last on: dense attention over a whole text, queries and keys shared."""
    told = {}

    def dense(layer, q, k, v, store, ops):
        group = q.shape[1] // k.shape[1]
        told[layer] = heads = plain_heads(q[0, :, :prompt], k[0, :, :prompt], runner.spec.scale, clusters, causal)
        q = torch.cat([q[:, head * group : (head + 1) * group] for head in heads], 1)
        k, v = (x.repeat_interleave(group, 1) for x in (k[:, heads], v))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=runner.spec.scale)

    nothing = torch.zeros(1, runner.spec.kv_heads, dtype=torch.int64)
    store = runner.new_ragged_store([Segments(nothing, nothing)] * runner.spec.layers)
    lengths = torch.tensor([len(ids)], dtype=torch.int32)
    hidden = runner.forward(ids[None], torch.arange(len(ids))[None], lengths, store, dense)
    return runner.logits(hidden[0, prompt - 1 :]), told


def whole(prompt, steps=6):
    """The text that `answered` reads."""
    return torch.cat([prompt.prefix, prompt.context, prompt.query, torch.arange(steps) * 7 % 300])


@pytest.mark.parametrize("compress", ["prompt", "context"])
@pytest.mark.parametrize("group", HEADS)
def test_a_cluster_a_head_is_full_attention(group, compress):
    runner = of_group(group)
    prompt = make_prompt(context=60, new_tokens=8)
    ours, prefilled = answered(make(runner, clusters=1.0, compress=compress), prompt)
    truth, _ = answered(Full(Full.Config(), runner), prompt)
    torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-4)
    assert ours.argmax(-1).tolist() == truth.argmax(-1).tolist()
    assert prefilled.kv_bytes == prefilled.kv_bytes_predicted == runner.spec.kv_bytes(60 + 3 + 7 + 8, 4)


@pytest.mark.parametrize(
    ("group", "clusters", "compress", "causal", "backend"),
    [(group, clusters, "prompt", True, "cpu") for group in HEADS for clusters in (1, 2, 3)]
    + [(3, 2, "context", True, "cpu"), (3, 2, "context", True, "reference"), (1, 2, "prompt", False, "reference")],
)
def test_clusters_are_dense_attention_with_shared_queries_and_keys(group, clusters, compress, causal, backend):
    runner = of_group(group, backend=backend)
    prompt = make_prompt(context=60, new_tokens=8)
    preset = None if causal else "released"
    method = make(runner, clusters=[clusters] * 2, compress=compress, preset=preset)
    ours, prefilled = answered(method, prompt)
    truth, heads = plain_logits(runner, whole(prompt), clusters, 70, causal)
    start = len(truth) - len(ours)
    torch.testing.assert_close(ours, truth[start:], rtol=1e-4, atol=1e-4)
    store = prefilled.state.store
    assert [store.heads(layer)[0].tolist() for layer in range(2)] == [heads[0], heads[1]]
    unlike, _ = answered(Full(Full.Config(), runner), prompt)
    assert not torch.allclose(ours, unlike, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("tokens", [1, 2, 4])
def test_a_prompt_of_fewer_than_five_tokens_has_clusters_of_those(tokens):
    runner = of_group(1)
    prompt = make_prompt(prefix=0, context=tokens - 1, query=1, new_tokens=8)
    ours, _ = answered(make(runner, clusters=[2, 2]), prompt)
    truth, _ = plain_logits(runner, whole(prompt), 2, tokens)
    torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("clusters", [[1, 1], [3, 1], [4, 2], [4, 4]])
def test_keys_are_stored_once_a_cluster(clusters):
    runner = of_group(3)
    _, prefilled = answered(make(runner, clusters=clusters), make_prompt(context=60, new_tokens=8))
    store, spec = prefilled.state.store, runner.spec
    assert prefilled.kv_bytes == prefilled.kv_bytes_predicted == store.nbytes()
    assert prefilled.kv_bytes * 2 * 2 * 4 == spec.kv_bytes(78, 4) * (sum(clusters) + 2 * 4)
    assert [len(k) for k in store.k] == [78 * count for count in clusters]
    assert [len(v) for v in store.v] == [78 * 4] * 2
    # nothing is evicted
    assert prefilled.kept_tokens() == 70
    assert torch.stack(store.lengths).tolist() == [[[76] * 4]] * 2


def test_average_linkage():
    # 0 and 2 are the nearest; 1 is as far from both in the mean as from 3, and the earlier pair wins
    far = torch.tensor([[0.0, 4, 1, 9], [4, 0, 6, 5], [1, 6, 0, 9], [9, 5, 9, 0]], dtype=torch.float64)
    assert linked(far, 4).tolist() == [0, 1, 2, 3]
    assert linked(far, 3).tolist() == [0, 1, 0, 3]
    assert linked(far, 2).tolist() == [0, 0, 0, 3]
    assert linked(far, 1).tolist() == [0, 0, 0, 0]
    # by single linkage 2 would join 0 and 1, by average linkage it joins 3: (2 + 10) / 2 > 5
    chain = torch.tensor([[0.0, 1, 10, 20], [1, 0, 2, 20], [10, 2, 0, 5], [20, 20, 5, 0]], dtype=torch.float64)
    assert linked(chain, 2).tolist() == [0, 0, 2, 2]
    # three weigh more than one: (3 * 1 + 9) / 4 < 4
    weighed = torch.full((5, 5), 4.0, dtype=torch.float64)
    weighed[:3, :3], weighed[3, :3], weighed[:3, 3] = 0.1, 1, 1
    weighed[4, :3] = weighed[:3, 4] = 1
    weighed[4, 3] = weighed[3, 4] = 9
    weighed.fill_diagonal_(0)
    assert linked(weighed, 2).tolist() == [0, 0, 0, 0, 4]
    # all alike: the first
    assert linked(torch.zeros(4, 4, dtype=torch.float64), 2).tolist() == [0, 0, 0, 3]


def test_clusters_of_the_released_code():
    of = {name: model_spec(f"random:{name}") for name in ("llama-2-7b", "llama-3-8b", "qwen2.5-7b")}
    released = {
        name: CHAI.Config(preset="released").resolve(spec, "cpu") for name, spec in of.items() if "llama" in name
    }
    assert sum(released["llama-2-7b"].clusters) == 794
    assert released["llama-2-7b"].clusters[14:20] == [32, 32, 18, 18, 20, 28]
    # 24, 26, 28, 30 and 32 of 32 heads
    assert set(released["llama-3-8b"].clusters) == {6, 7, 8}
    assert released["llama-3-8b"].clusters.count(7) == 15 + 2
    assert released["llama-2-7b"].cost(of["llama-2-7b"], 4096).kv_tokens == -(-4096 * (794 + 1024) // 2048)
    with pytest.raises(ConfigError, match=r'^chai: preset "released" .* got qwen2.5-7b of 28 .*; set clusters'):
        CHAI.Config(preset="released").resolve(replace(of["qwen2.5-7b"], name="qwen2.5-7b"), "cpu")


def test_clusters_are_a_share_or_a_number_a_layer():
    spec = of_group(1).spec
    assert CHAI.Config().resolve(spec, "cpu").clusters == [3, 3]
    assert CHAI.Config(clusters=0.1).resolve(spec, "cpu").clusters == [1, 1]
    assert CHAI.Config(clusters=[4, 2], preset="released").resolve(spec, "cpu").clusters == [4, 2]
    for wrong in ([1], [1, 5]):
        with pytest.raises(ConfigError, match=r"^chai: clusters: 2 numbers up to 4.*; give a share"):
            CHAI.Config(clusters=wrong).resolve(spec, "cpu")


@pytest.mark.parametrize("wrong", [0, 1.5, True, "all", [], [1, 0], [1, 2.0], [1, True]])
def test_what_is_neither_a_share_nor_numbers_is_refused_in_one_line(wrong):
    with pytest.raises(
        ConfigError, match=r"^here: clusters: .*a share above 0 and up to 1, or a list .*, got "
    ) as error:
        validate(CHAI.Config, {"clusters": wrong}, "here")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("changes", [{"budgets": 20}, {"decoding": Oldest(0)}, {"placing": Renumbered(4)}])
def test_shared_keys_are_neither_evicted_nor_moved(changes):
    changes = dict(changes)
    wanted = torch.full((1, 2), changes.pop("budgets", 30))
    policy = Policy(Nothing(), Uniform(), heads=FirstTokens([1]), **changes)
    with pytest.raises(ConfigError, match="policy: heads that share keys and every token"):
        policy.segments(0, wanted, torch.tensor([30]), 0, 4)


@pytest.fixture
def little_room(monkeypatch):
    """So that thirty tokens outgrow it twice."""
    monkeypatch.setattr("pcbench.models.attach.evicting.ROOM", 8)
    monkeypatch.setattr("pcbench.models.stores.ragged.MORE", 8)


def test_a_model_with_it_attached_generates_beyond_the_room(little_room):
    model, batch = make_model(num_attention_heads=8, num_key_value_heads=4), make_batch()
    truth = generated(model, batch, tokens=30)
    turn = continued(model, truth, batch)
    with attach(model, "chai", clusters=1.0) as handle:
        ours = generated(model, batch, tokens=30)
        assert_same(ours, truth)
        assert_same(continued(model, ours, batch), turn)
        assert handle.report().bytes == ours[CACHE].nbytes()


def test_rows_of_a_padded_batch_have_clusters_of_their_own(little_room):
    model, batch = make_model(num_attention_heads=8, num_key_value_heads=4), make_batch((9, 60, 3, 22))
    with attach(model, "chai", clusters=[2, 3]) as handle:
        together = generated(model, batch, tokens=30)
        cache = together[CACHE]
        assert len(cache.k[0]) * 2 == len(cache.v[0])
        assert len(cache.k[1]) * 4 == len(cache.v[1]) * 3
        twin = cache.copy()
        turn = continued(model, together, batch)
        together[CACHE] = twin
        assert_same(continued(model, together, batch), turn)
        heads = cache.heads(0)
        assert len({tuple(x) for x in heads.tolist()}) > 1
        for i in range(4):
            alone = generated(model, row(batch, i), tokens=30)
            assert together.sequences[i, 60:].tolist() == alone.sequences[0, -30:].tolist()
            assert alone[CACHE].heads(0)[0].tolist() == heads[i].tolist()
        assert handle.report().tokens == [[[22 + 29] * 4] * 2]


class OfOtherValues:
    """The CPU backend that takes a neighbour's values where keys are shared."""

    backend = "cpu"

    def __getattr__(self, name):
        real = getattr(ops.backend("cpu"), name)
        if name != "cached_attention":
            return real
        return lambda *args, v_starts, **more: real(*args, v_starts=v_starts.roll(1, 1).contiguous(), **more)


@pytest.mark.parametrize("wrong", [False, True])
def test_values_beside_shared_keys_are_watched(wrong):
    runner = of_group(3, backend="cpu")
    runner = WatchedRunner.of(replace(runner, ops=OfOtherValues()) if wrong else runner, seed=0)
    answered(make(runner, clusters=[2, 2]), make_prompt(context=60, new_tokens=8))
    found = runner.watch.worst()["cached_attention"]
    assert (found["err"] > found["bound"]) == wrong
