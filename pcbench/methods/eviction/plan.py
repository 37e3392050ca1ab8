"""Attention of a prompt, after which tokens are evicted, and of new tokens over what stayed."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcbench.methods.eviction.decoding import received
from pcbench.methods.eviction.policy import Policy, Prompted, last_tokens
from pcbench.ops.selection import LARGEST_CAPACITY
from pcbench.reference import select_tokens
from pcbench.reference.packing import of_heads
from pcbench.reference.stored import stored_attention
from pcbench.types import ModelSpec, Ops, RaggedKVStore, Rotary, Segments, Stages

__all__ = ["PromptPlan", "StoredPlan", "beyond_kernels", "kept_indices"]


@dataclass(frozen=True)
class PromptPlan:
    """Causal attention over the whole prompt; each layer keeps its budgets and the rest is freed before the next.

    Args:
        policy: the method's choices.
        spec: the model.
        segments: what each layer stores.
        stages: names the selection.
        lengths: [B] int32, tokens of each row; None means all.
        seed: what random choices come from.
        rotary: of the model, where the policy asks for it.
    """

    policy: Policy
    spec: ModelSpec
    segments: Sequence[Segments]
    stages: Stages
    lengths: Tensor | None = None
    seed: int = 0
    rotary: Rotary | None = None

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, store: RaggedKVStore, ops: Ops) -> Tensor:
        policy, rows = self.policy, self.policy.scores.rows(k.shape[2])
        if policy.heads is not None:
            with self.stages("selection"):
                heads = policy.heads(layer, self.spec, q, k, self.lengths)
                store.share(layer, heads)
                q, k = (_of_heads(x, heads) for x in (q, k))
        ragged = {}
        if self.lengths is not None:
            ragged = {"query_lengths": self.lengths, "key_lengths": of_heads(self.lengths, k.shape[1])}
        out, lse, mass = ops.calibrated_attention(
            q, k, v, scale=self.spec.scale, causal=True, mass_rows=rows, **ragged
        )  # fmt: skip
        with self.stages("selection"):
            prompted = Prompted(layer, self.spec, ops, q, k, v, lse, mass, self.lengths, self.seed, self.rotary)
            index, lengths = kept_indices(policy, prompted, self.segments[layer])
            pruning = policy.pruning
            positions = None if pruning is None or pruning.positions is None else pruning.positions.int()
            store.fill(layer, k, v, index, lengths, positions)
            if pruning is not None:
                pruning.saw(layer, mass)
            if policy.decoding is not None:
                policy.decoding.begin(prompted, store)
            if policy.copies is not None:
                policy.copies.begin(prompted)
            _place(policy, layer, store, self.rotary)
        return out


def kept_indices(policy: Policy, prompted: Prompted, segments: Segments) -> tuple[Tensor, Tensor]:
    """Which tokens of a layer stay.

    Args:
        policy: the method's choices.
        prompted: the layer.
        segments: what it stores.

    Returns:
        index [B, Hkv, C] int32, ascending, −1 behind the last; lengths [B, Hkv] int32, `segments.kept` unless shared.
    """
    batch, kv_heads, tokens, _ = prompted.k.shape
    device, budgets = prompted.k.device, segments.kept
    asked, longest = _asked(segments), ranked_tokens(policy, segments, tokens)
    wanted = budgets.int().to(device)
    if not longest:
        everything = torch.arange(tokens, dtype=torch.int32, device=device).expand(batch, kv_heads, -1)
        return everything.masked_fill(everything >= wanted[..., None], -1), wanted
    sink, recent, pool = policy.sink, policy.recent, policy.pool
    scores = policy.scores(prompted)
    if pool > 1 and recent:
        scores = scores.masked_fill(last_tokens(prompted, recent), torch.nan)
    if policy.sharing is not None or int(asked.min()) < sink + recent:
        scores = _ranked(scores, prompted, policy, asked)
        sink, recent, pool = 0, 0, 1
    if policy.sharing is not None:
        wanted = policy.sharing(scores, budgets)
    # compiled selections rank as many rows at once; the plain one ranks by the same rule
    select = prompted.ops.select_tokens if longest <= LARGEST_CAPACITY else select_tokens
    # only the index is wanted: the rows are gathered into their segments at once
    unused = prompted.k.new_zeros((batch, kv_heads, tokens, SMALLEST_ROW))
    _, _, index, lengths = select(
        scores, unused, unused, capacity=longest, budgets=wanted, key_lengths=prompted.kv_lengths,
        pool=pool, sink=sink, recent=recent,
    )  # fmt: skip
    return index, lengths


def ranked_tokens(policy: Policy, segments: Segments, tokens: int) -> int:
    """Rows that the selection of a layer of `tokens` tokens ranks at once; 0 where every token stays, or none."""
    if int(_asked(segments).min()) >= tokens:
        return 0
    kept = segments.kept
    return int(kept.max()) if policy.sharing is None else min(tokens, int(kept.sum(1).max()))


def beyond_kernels(policy: Policy, segments: Sequence[Segments], lengths: Sequence[int], ops: Ops) -> list[str]:
    """A warning where a compiled backend selects by the reference's code, layers of `lengths` tokens each."""
    most = max(ranked_tokens(policy, *layer) for layer in zip(segments, lengths, strict=True))
    if ops.backend == "reference" or most <= LARGEST_CAPACITY:
        return []
    return [f"a selection of {most} tokens by the reference's code, compiled code ranks {LARGEST_CAPACITY}"]


def _asked(segments: Segments) -> Tensor:
    return segments.kept if segments.wanted is None else segments.wanted


# 16 bytes of the narrowest dtype
SMALLEST_ROW = 8


def _ranked(scores: Tensor, prompted: Prompted, policy: Policy, budgets: Tensor) -> Tensor:
    """[B, Hkv, S]: the scores as `select_tokens` ranks them, comparable between heads.

    A head whose budget, [B, Hkv] on the CPU, holds not all that is protected keeps the last of it, then the first.
    """
    kv_heads, behind, pool = prompted.k.shape[1], last_tokens(prompted, 0), policy.pool
    if scores.shape[1] != kv_heads:
        scores = scores.unflatten(1, (kv_heads, -1)).sum(2)
    scores = scores.masked_fill(behind | scores.isnan(), -torch.inf)
    if pool > 1:
        scores = torch.nn.functional.max_pool1d(scores, pool, stride=1, padding=pool // 2)
    j, budget = torch.arange(scores.shape[2], device=scores.device), budgets.to(scores.device)[..., None]
    recent = budget.clamp_max(policy.recent)
    ends = scores.shape[2] if prompted.lengths is None else prompted.lengths[:, None, None]
    protected = (j < (budget - recent).clamp_max(policy.sink)) | (j >= ends - recent)
    return scores.masked_fill(protected, torch.inf).masked_fill(behind, -torch.inf)


@dataclass(frozen=True)
class StoredPlan:
    """Attention of new tokens over what is stored and over each other; their keys are in the store.

    Args:
        policy: the method's choices.
        spec: the model.
        rotary: of the model, where the policy asks for it.
    """

    policy: Policy
    spec: ModelSpec
    rotary: Rotary | None = None

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, store: RaggedKVStore, ops: Ops) -> Tensor:
        _place(self.policy, layer, store, self.rotary)
        rows, decoding, count, heads = store.rows(layer), self.policy.decoding, q.shape[2], store.heads(layer)
        if heads is not None:
            q = _of_heads(q, heads)
        masses: list[Tensor] = []
        # a key that took an evicted one's row stands anywhere; of one new token every stored key is earlier
        if decoding is not None and decoding.kept_masses and count == 1:
            out, _, mass = ops.decode_attention(
                q, rows.k_rows, rows.v_rows, rows.starts, rows.lengths, scale=self.spec.scale, longest=rows.longest
            )
            masses.append(mass)
        else:
            slots = torch.arange(q.shape[0], dtype=torch.int32, device=q.device)[:, None]
            out, lse = stored_attention(ops, q, rows, slots, scale=self.spec.scale, causal_last=count > 1)
            if decoding is not None and decoding.kept_masses:
                masses += _received(decoding.apart, q, lse, layer, store, ops)
        if decoding is not None:
            decoding.after(layer, masses, count, store)
        copies = self.policy.copies
        return out if copies is None else copies(layer, out)


def _received(apart: int, q: Tensor, lse: Tensor, layer: int, store: RaggedKVStore, ops: Ops) -> list[Tensor]:
    """What stored keys received from several new tokens: of the last `apart` one by one, or of all together."""
    if not apart:
        return [received(q, lse, layer, store, ops, causal_last=True)]
    found, count = [], q.shape[2]
    for row in range(max(0, count - apart), count):
        one, state = q[:, :, row, None].contiguous(), lse[:, :, row, None].contiguous()
        found.append(received(one, state, layer, store, ops, causal_last=True, later=count - 1 - row))
    return found


def _place(policy: Policy, layer: int, store: RaggedKVStore, rotary: Rotary | None) -> None:
    if policy.placing is not None:
        assert rotary is not None
        policy.placing(layer, store, rotary)


def _of_heads(x: Tensor, heads: Tensor) -> Tensor:
    """[B, n·Hkv, T, D]: of each kv-head the n rows of the one named in [B, Hkv]."""
    row = torch.arange(len(x), device=x.device)[:, None]
    return x.unflatten(1, (heads.shape[1], -1))[row, heads].flatten(1, 2)
