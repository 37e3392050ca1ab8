"""Dual chunk attention inside a model by its definition: one relative position for each pair, and one softmax."""

import torch
from dense_dual_chunk import positions

from pcbench.models.interface import Call, planned


def plain_plan(runner, period, clip, factor=0.0, trained=1, seen=None):
    """A plan for forwards whose positions are all 0: float64 over all pairs that are `seen` [L, L] and causal."""
    rotary, scale = runner.rotary, runner.spec.scale

    def plan(layer, q, k, v, store, ops):
        length, group = q.shape[2], q.shape[1] // k.shape[1]
        q, k, v = q.double(), *(x.double().repeat_interleave(group, 1) for x in (k, v))
        turned = rotary.rotated(layer, q[:, :, :, None], positions(length, period, clip))
        scores = torch.einsum("bhijd,bhjd->bhij", turned, k) * scale
        gain = (1 + factor * (torch.arange(1, length + 1).double() / trained).clamp_min(1).log()) ** 2
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        visible = causal if seen is None else causal & seen
        return ((scores * gain[:, None]).masked_fill(~visible, -torch.inf).softmax(-1) @ v).to(runner.dtype)

    return plan


def plain_logits(runner, ids, *numbers, **more):
    """[B, L, V] of ids [B, L], by `plain_plan` with these numbers."""
    call = Call(plain_plan(runner, *numbers, **more), None, runner.ops, runner.device, runner.dtype)
    with planned(runner.model, call):
        # the model's own forward, whatever is attached
        forward = type(runner.model).forward
        return forward(runner.model, input_ids=ids, position_ids=torch.zeros_like(ids), use_cache=False).logits
