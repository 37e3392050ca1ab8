"""ParallelComp on a tiny model, and what it must equal."""

import torch

from pcbench.methods.parallel_comp import ParallelComp
from pcbench.models.interface import attention


def method(runner, **config):
    return ParallelComp(ParallelComp.Config(**config).resolve(runner.spec, "cpu"), runner)


def close(a, b, tolerance=1e-4):
    return (a - b).norm() <= tolerance * b.norm()


@torch.inference_mode()
def dense(runner, prompt, spans, follow, hidden=()):
    """The same by one forward with a 4-d mask: blocks of chunks, a query that sees all but the hidden of their keys."""
    rows = [torch.cat([prompt.prefix, prompt.context[a:b]]) for a, b in spans]
    tail = torch.cat([prompt.query, torch.tensor(follow, dtype=torch.int64)])
    ids = torch.cat([*rows, tail])
    owner = torch.cat([torch.full((len(r),), i) for i, r in enumerate(rows)] + [torch.full((len(tail),), -1)])
    start = max(len(r) for r in rows)
    positions = torch.cat([torch.arange(len(r)) for r in rows] + [start + torch.arange(len(tail))])
    index = torch.arange(len(ids))
    seen = (index <= index[:, None]) & ((owner == owner[:, None]) | (owner[:, None] == -1))
    seen &= ~((owner[:, None] == -1) & torch.isin(index, torch.tensor(hidden, dtype=torch.int64)))
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    with attention(runner.model, "sdpa"):
        logits = runner.model(ids[None], attention_mask=mask[None, None], position_ids=positions[None]).logits[0]
    return logits[len(ids) - len(follow) - 1 :]
