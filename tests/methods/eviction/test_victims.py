"""What new tokens displace, step by step, against a cache of plain lists.

Of layer 0, whose queries and keys do not depend on what was evicted.
"""

from dataclasses import dataclass, field

import pytest
import torch

from pcbench.types import no_stages
from tests.methods.eviction.test_decoding import positions
from tests.methods.eviction.test_methods import make
from tests.tiny import make_prompt, make_runner

STEPS = 40


def attention_rows(runner, ids):
    """rows(queries, kv_head, keys): attention of each query to those of `keys` up to it, the sum over the group."""
    found = []

    def plan(layer, q, k, v, store, ops):
        found.append((q[0].double(), k[0].double()))
        return ops.calibrated_attention(q, k, v, scale=runner.spec.scale, causal=True)[0]

    store = runner.new_store(1, len(ids))
    store.begin(torch.zeros(1, dtype=torch.int32))
    count = torch.tensor([len(ids)], dtype=torch.int32)
    runner.forward(ids[None], torch.arange(len(ids))[None], count, store, plan)
    q, k = found[0]
    group = len(q) // len(k)

    def rows(queries, head, keys):
        at, keys = torch.tensor([*queries]), [*keys]
        scores = q[head * group : (head + 1) * group, at] @ k[head, keys].T * runner.spec.scale
        weights = scores.masked_fill(torch.tensor(keys) > at[:, None], -torch.inf).softmax(-1).sum(0)
        return [dict(zip(keys, row, strict=True)) for row in weights.tolist()]

    return rows


@dataclass
class Lists:
    """One kv-head: what it holds, and what each query gave."""

    kept: list
    given: list = field(default_factory=list)

    def total(self, j, window):
        return sum(row.get(j, 0.0) for row in (self.given[-window:] if window else self.given))


@pytest.mark.parametrize("question", [0, 5])
@pytest.mark.parametrize(
    ("name", "config", "context"),
    [
        ("h2o", {"tokens": 16}, 60),
        # its budget holds the prompt and some of the answer
        ("h2o", {"tokens": 30, "recent": 4}, 20),
        ("tova", {"tokens": 16}, 60),
        ("tova", {"tokens": 30, "sink": 2}, 20),
        # queries count longer than their tokens are protected
        ("uncomp", {"tokens": 16, "window": 2, "head_groups": ["01", "10"]}, 60),
        ("uncomp", {"group_tokens": [12, 40], "window": 2, "head_groups": ["01", "10"]}, 20),
        ("snapkv", {"tokens": 20, "preset": "uncomp-released", "window": 6}, 60),
    ],
)
def test_victims_are_those_of_plain_lists(name, config, context, question):
    runner = make_runner(trained_tokens=512)
    prompt = make_prompt(prefix=3, context=context, query=question, new_tokens=STEPS)
    method = make(name, runner, compress="context" if question else "prompt", **config)
    prefilled = method.prefill(prompt, no_stages)
    length, read = 3 + context, 3 + context + question
    rows = attention_rows(runner, torch.cat([prompt.prefix, prompt.context, prompt.query, torch.arange(STEPS)]))
    policy = method.config.policy(runner.spec, method.config.tokens_of(length))
    budgets = policy.budgets(0, runner.spec, method.config.tokens_of(length), length)
    decoding = policy.decoding
    window, together = getattr(decoding, "window", 0), getattr(decoding, "everywhere", False)
    heads = [Lists([j for j in kept if j < length]) for kept in positions(prefilled)]
    assert [len(head.kept) for head in heads] == [min(n, length) for n in budgets]
    for i, head in enumerate(heads):
        head.given = rows(range(length), i, range(length))
        head.kept += range(length, read)
        if question:
            head.given += rows(range(length, read), i, head.kept)
    for now in range(read, read + STEPS):
        for i, head in enumerate(heads):
            assert positions(prefilled)[i] == sorted(head.kept), (now, i)
        sums = [
            {
                j: sum(x.total(j, window) for x in heads) if together else head.total(j, window)
                for j in head.kept
                if decoding.sink <= j < now - decoding.recent
            }
            for head in heads
        ]
        for i, (head, found) in enumerate(zip(heads, sums, strict=True)):
            if len(head.kept) > budgets[i] + question:
                head.kept.remove(min(found, key=found.get))
            head.kept.append(now)
            head.given += rows([now], i, head.kept)
        method.step(prefilled, torch.tensor([now - read]))
