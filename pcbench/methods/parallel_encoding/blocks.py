"""Attention of blocks that see shared first tokens and themselves, and the method that reads a text by it."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from pcbench.methods.whole_cache import FreshPlan, Part, State, WholeCache
from pcbench.types import AttentionPlan, ModelSpec, Ops, Prefilled, Prompt, RaggedKVStore, Stages

__all__ = ["BlockPlan", "Layout", "ParallelEncoding", "block_flops"]

# tokens of a forward that reads several blocks: enough to fill a device
AT_ONCE = 8192


@dataclass(frozen=True)
class Layout:
    """How what stands before a question is encoded.

    Args:
        spans: (start, end) of its blocks, one behind another and none of them empty; the first sees itself alone.
        head: first tokens, of the first block, that every other block sees.
        begins: position of the first token of every block but the first; None where each goes on from the one before.
    """

    spans: list[tuple[int, int]]
    head: int
    begins: int | None

    def positions(self, span: tuple[int, int], device: torch.device) -> Tensor:
        """[T] int64 of a block."""
        start, end = span
        first = start if self.begins is None or not start else self.begins
        return torch.arange(first, first + end - start, device=device)

    @property
    def following(self) -> int:
        """Position behind the farthest block."""
        if not self.spans:
            return 0
        if self.begins is None:
            return self.spans[-1][1]
        (_, first), *others = self.spans
        return max([first, *(self.begins + end - start for start, end in others)])


@dataclass(frozen=True)
class BlockPlan:
    """Attention of blocks, one behind another in a row: each sees the first `head` tokens of the store and itself.

    Args:
        spec: the model.
        head: tokens that were read before.
        lengths: tokens of each block.
    """

    spec: ModelSpec
    head: int
    lengths: Sequence[int]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, store: RaggedKVStore, ops: Ops) -> Tensor:
        rows = store.rows(layer)
        place = rows.starts[0, :, None].long() + torch.arange(self.head, device=q.device)
        heads = [arena[place] for arena in (rows.k_rows, rows.v_rows)]  # [Hkv, A, D]
        outs, start = [], 0
        for length, alike in groupby(self.lengths):
            count = len(list(alike))
            end = start + count * length
            blocks = [x[0, :, start:end].unflatten(1, (count, length)).transpose(0, 1) for x in (q, k, v)]
            seen = [
                torch.cat([head.expand(count, -1, -1, -1), own], 2) for head, own in zip(heads, blocks[1:], strict=True)
            ]
            # rows and keys end together, so a row sees the whole head
            out = ops.calibrated_attention(blocks[0], *seen, scale=self.spec.scale, causal=True)[0]
            outs.append(out.transpose(0, 1).flatten(1, 2))
            start = end
        return torch.cat(outs, 1)[None]


class ParallelEncoding(WholeCache):
    """Base class of methods whose blocks do not see each other.

    The keys of the shared tokens are the same before every block, so they are computed once.
    """

    def layout(self, prompt: Prompt) -> Layout:
        """Of prefix and context, which the question has no say in."""
        raise NotImplementedError

    def later(self, layout: Layout) -> AttentionPlan:
        """Attention of the question and the answer."""
        raise NotImplementedError

    def warnings(self, layout: Layout, prompt: Prompt) -> list[str]:
        """Where positions lie beyond the trained ones."""
        used, trained = layout.following + prompt.query.numel() + prompt.new_tokens, self.runner.spec.trained_tokens
        return [f"{used} positions, trained on {trained}"] if used > trained else []

    def prefill(self, prompt: Prompt, stages: Stages) -> Prefilled:
        """Logits of the first answer token, and keys and values of the whole prompt."""
        state = self.read_context(prompt, stages)
        return self._asked(state, prompt, stages)

    def read_context(self, prompt: Prompt, stages: Stages) -> State | None:
        """Keys and values of prefix and context; None where there is neither."""
        ids, layout = torch.cat([prompt.prefix, prompt.context]), self.layout(prompt)
        if not ids.numel():
            return None
        room = prompt.query.numel() + prompt.new_tokens
        with stages("chunks"):
            return self._begin(self._parts(ids, layout), self.later(layout), layout.following, room, stages)

    def ask(self, read: State, prompt: Prompt, stages: Stages) -> Prefilled:
        """The same as `prefill` from a copy of these."""
        return self._asked(copy.deepcopy(read), prompt, stages)

    def _asked(self, state: State | None, prompt: Prompt, stages: Stages) -> Prefilled:
        layout, query = self.layout(prompt), prompt.query
        if state is None:
            part = Part(query, torch.arange(query.numel(), device=query.device), FreshPlan(self.runner.spec))
            state = self._begin([part], self.later(layout), query.numel(), prompt.new_tokens, stages)
        elif query.numel():
            with stages("query"):
                self._follow(query, state, stages)
        return self._prefilled(state, prompt, self.warnings(layout, prompt))

    def _parts(self, ids: Tensor, layout: Layout) -> list[Part]:
        """The first block by itself, the others in forwards of at most AT_ONCE tokens or one block."""
        batches: list[list[tuple[int, int]]] = []
        for span in layout.spans[1:]:
            if batches and span[1] - batches[-1][0][0] <= AT_ONCE:
                batches[-1].append(span)
            else:
                batches.append([span])
        spec, (start, end) = self.runner.spec, layout.spans[0]
        parts = [Part(ids[start:end], layout.positions((start, end), ids.device), FreshPlan(spec))]
        for batch in batches:
            plan = BlockPlan(spec, layout.head, [end - start for start, end in batch])
            positions = torch.cat([layout.positions(span, ids.device) for span in batch])
            parts.append(Part(ids[batch[0][0] : batch[-1][1]], positions, plan))
        return parts


def block_flops(spec: ModelSpec, tokens: int, block: int, head: int) -> float:
    """Operations of the scores of a text in blocks of `block` tokens behind `head` shared ones of the first."""
    blocks = max(1.0, tokens / block)
    pairs = min(block, tokens) ** 2 / 2 * blocks + (blocks - 1) * block * head
    return 4.0 * spec.layers * spec.heads * spec.head_dim * pairs
