"""Which tokens of a prompt stay, layer by layer, against plain lists of the model's own keys and attention."""

import pytest
import torch

from pcbench.types import no_stages
from tests.methods.eviction.test_decoding import positions
from tests.methods.eviction.test_methods import make
from tests.tiny import make_prompt, make_runner

# query heads a kv-head: the tiny model's
LAYERS, GROUP, LENGTH, TOKENS = 3, 2, 110, 24
# one in which the window's own votes would count if they were pooled
PROMPT = {"prefix": 3, "context": 100, "query": 7, "seed": 11}


def seen_layers(runner, ids):
    """Of each layer its keys [Hkv, S, D] and attention weights [H, S, S], float64."""
    found = []

    def plan(layer, q, k, v, store, ops):
        keys = k[0].double()
        scores = q[0].double() @ keys.repeat_interleave(GROUP, 0).mT * runner.spec.scale
        future = torch.ones(len(ids), len(ids), dtype=torch.bool).triu(1)
        found.append((keys, scores.masked_fill(future, -torch.inf).softmax(-1)))
        return ops.calibrated_attention(q, k, v, scale=runner.spec.scale, causal=True)[0]

    store = runner.new_store(1, len(ids))
    store.begin(torch.zeros(1, dtype=torch.int32))
    runner.forward(ids[None], torch.arange(len(ids))[None], torch.tensor([len(ids)], dtype=torch.int32), store, plan)
    return found


def grouped(votes, reduce="mean"):
    """[H, S] → [Hkv, S]."""
    pairs = votes.unflatten(0, (-1, GROUP))
    return pairs.amax(1) if reduce == "max" else pairs.mean(1)


def pooled(votes, width, of=max):
    """[Hkv, S] lists: of each token and its neighbours, none beyond the ends."""
    half = width // 2
    return [[of(row[max(0, j - half) : j + half + 1]) for j in range(len(row))] for row in votes]


def window_votes(weights, window, pool, pooling="max", reduce="mean"):
    """Of the tokens before the window, from its queries."""
    votes = grouped(weights[:, -window:, :-window].sum(1), reduce).tolist()
    return pooled(votes, pool, max if pooling == "max" else lambda near: sum(near) / pool)


def best(scores, budget, sink=0, recent=0):
    """Tokens of one head: protected ones, then those of the highest scores, the earlier of equals."""
    protected = [*range(sink), *range(LENGTH - recent, LENGTH)]
    rest = list(range(sink, min(len(scores), LENGTH - recent)))
    rest.sort(key=lambda j: (-scores[j], j))
    return sorted(protected + rest[: budget - len(protected)])


def of_window(weights, keys, budgets, window=8, pool=7, sink=4, **more):
    votes = window_votes(weights, window, pool, **more)
    return [best(row, n, sink, window) for row, n in zip(votes, budgets, strict=True)]


def of_adakv(weights, keys, safeguard=0.2, window=8, sink=4):
    """The layer's best tokens, of each head its safest ones first."""
    votes, heads = window_votes(weights, window, 7), len(keys)
    sure = [best(row, max(int(safeguard * TOKENS), sink + window), sink, window) for row in votes]
    rest = sorted(
        ((-votes[h][j], h, j) for h in range(heads) for j in range(LENGTH - window) if j not in sure[h]),
    )
    for _, h, j in rest[: TOKENS * heads - sum(map(len, sure))]:
        sure[h].append(j)
    return [sorted(kept) for kept in sure]


def of_scores(scores, sink=4, recent=32, budget=TOKENS):
    return [best(row, budget, sink, recent) for row in scores.tolist()]


def keydiff(keys):
    unit = keys / keys.norm(dim=-1, keepdim=True)
    mean = unit.mean(1, keepdim=True)
    return -(unit * mean / mean.norm(dim=-1, keepdim=True)).sum(-1)


def column_mass(weights, mean=False):
    mass = weights.sum(1)
    return grouped(mass / torch.arange(LENGTH, 0, -1) if mean else mass)


SAME = [TOKENS] * 2
# name → method, its config, and the tokens of each head of a layer
CASES = {
    "snapkv": ("snapkv", {"window": 8}, lambda w, k, i: of_window(w, k, SAME)),
    "snapkv released": ("snapkv", {"preset": "released"}, lambda w, k, i: of_window(w, k, SAME, sink=0)),
    "snapkv average": (
        "snapkv", {"window": 12, "pool": 5, "pooling": "avg", "sink": 0},
        lambda w, k, i: of_window(w, k, SAME, 12, 5, 0, pooling="avg"),
    ),
    "snapkv max": (
        "snapkv", {"window": 6, "pool": 1, "reduce": "max"},
        lambda w, k, i: of_window(w, k, SAME, 6, 1, reduce="max"),
    ),
    "pyramidkv": (
        "pyramidkv", {"preset": "released"},
        # of 16 beside the window: least 0, most 32, steps of 16
        lambda w, k, i: of_window(w, k, [(40, 24, 8)[i]] * 2, sink=0),
    ),
    "uncomp": (
        "uncomp", {"head_groups": ["01", "10", "01"]},
        lambda w, k, i: of_window(w, k, [(16, 32), (32, 16), (16, 32)][i]),
    ),
    "uncomp released": (
        "uncomp", {"head_groups": ["01", "10", "01"], "preset": "released"},
        lambda w, k, i: of_window(w, k, [(18, 36), (36, 18), (18, 36)][i], sink=0),
    ),
    "adakv": ("adakv", {"window": 8}, lambda w, k, i: of_adakv(w, k)),
    "adakv safe": ("adakv", {"window": 8, "safeguard": 0.95}, lambda w, k, i: of_adakv(w, k, 0.95)),
    "tova": ("tova", {}, lambda w, k, i: of_scores(w[:, -1].mean(0).expand(2, -1), 0, 1)),
    "h2o": ("h2o", {}, lambda w, k, i: of_scores(column_mass(w), 4, 12)),
    "h2o mean": ("h2o", {"score": "mean", "recent": 5}, lambda w, k, i: of_scores(column_mass(w, mean=True), 4, 5)),
    "h2o released": ("h2o", {"preset": "released"}, lambda w, k, i: of_scores(column_mass(w), 0, 8)),
    "knorm": ("knorm", {"recent": 8}, lambda w, k, i: of_scores(-k.norm(dim=-1), 4, 8)),
    "knorm released": (
        "knorm", {"preset": "released"},
        lambda w, k, i: of_scores(-k.norm(dim=-1), 0, 0, TOKENS if i > 1 else LENGTH),
    ),
    "keydiff": ("keydiff", {"recent": 8}, lambda w, k, i: of_scores(keydiff(k), 4, 8)),
    "streaming_llm": ("streaming_llm", {}, lambda w, k, i: [[0, 1, 2, 3, *range(LENGTH - 20, LENGTH)]] * 2),
    "recent_only": ("recent_only", {}, lambda w, k, i: [list(range(LENGTH - 24, LENGTH))] * 2),
}  # fmt: skip


@pytest.fixture(scope="module")
def runner():
    return make_runner(num_hidden_layers=LAYERS)


@pytest.fixture(scope="module")
def layers(runner):
    prompt = make_prompt(**PROMPT)
    return seen_layers(runner, torch.cat([prompt.prefix, prompt.context, prompt.query]))


@pytest.mark.parametrize("case", CASES)
def test_what_stays_is_what_plain_lists_say(case, runner, layers):
    name, config, plainly = CASES[case]
    prefilled = make(name, runner, tokens=TOKENS, **config).prefill(make_prompt(**PROMPT), no_stages)
    for i, (keys, weights) in enumerate(layers):
        assert positions(prefilled, i) == plainly(weights, keys, i), i
