"""The best chunks of a prompt, by what the query loses over each of them."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from pcbench.methods.parallel_comp.config import Config
from pcbench.methods.parallel_comp.layout import Layout
from pcbench.reference.packing import ChunkBatch
from pcbench.types import ModelRunner, Ops, Prompt, Stages

__all__ = ["Ranking", "scored_tokens"]


def scored_tokens(config: Config, prompt: Prompt) -> int | None:
    """How many last tokens of a chunk's row are scored: None for the query's, more than any row for all."""
    if config.rank_by == "window_nll":
        return prompt.context_tokens
    return None if config.query_tail is None else min(config.query_tail, prompt.query.numel())


class Ranking:
    """The K best chunks so far and the slots they lie in; K + M slots of a store are enough for any number of chunks.

    Args:
        config: what ranks them.
        layout: of the prompt.
        prompt: seeds the random scores, which are the same wherever it runs.
        runner: whose ops and head score.
    """

    def __init__(self, config: Config, layout: Layout, prompt: Prompt, runner: ModelRunner) -> None:
        self.config, self.runner, self.chunks = config, runner, len(layout.spans)
        keep, device = layout.keep, runner.device
        self.best = _no_chunks(keep, device)
        self.weights: Tensor | None = None
        self.free = torch.arange(keep, layout.slots, dtype=torch.int32, device=device)
        self.scores = torch.full((self.chunks,), torch.inf, device=device)
        if config.rank_by == "random":
            generator = torch.Generator().manual_seed(_seed(prompt))
            self.drawn = torch.rand(self.chunks, generator=generator).to(device)

    def offer(self, batch: ChunkBatch, hidden: Tensor, stages: Stages) -> None:
        """Takes a micro-batch that lies in the first free slots, given its hidden rows [M', T, E]."""
        config, ops = self.config, self.runner.ops
        if (config.rank_by, config.prefer, config.tie) == ("query_nll", "lowest", "early"):
            scores, self.free = self._select(ops, batch, hidden, self.free, self.best)
        else:
            with stages("scoring"):
                scores = self._scores(ops, batch, hidden)
            self.free = ops.chunk_topk(*self._ordered(scores, batch.chunk_ids), self.free, *self.best)
        first, count = batch.first, batch.ids.shape[0]
        self.scores[first : first + count] = scores[:count]

    def kept(self) -> tuple[Tensor, Tensor]:
        """Numbers and slots of the kept chunks in reading order, [K] int32 both; −1 where there are fewer."""
        _, ids, slots = self.best
        if self.config.tie == "early":
            return ids, slots
        return torch.where(ids >= 0, self.chunks - 1 - ids, ids).flip(0), slots.flip(0)

    def best_of_all(self) -> Tensor:
        """Numbers of the best chunks by `scores` alone, in reading order, [K] int32."""
        _, ids, _ = self.best = _no_chunks(len(self.best[1]), self.scores.device)
        numbers = torch.arange(self.chunks, dtype=torch.int32, device=ids.device)
        self.runner.ops.chunk_topk(*self._ordered(self.scores, numbers), numbers, *self.best)
        return self.kept()[0]

    def _select(self, ops: Ops, batch: ChunkBatch, hidden: Tensor, free: Tensor, best: Any) -> Any:
        rows, self.weights = self.runner.head_factors(batch.scored(hidden), self.weights)
        return ops.chunk_select(rows, self.weights, batch.targets, batch.segments, batch.chunk_ids, free, *best)

    def _scores(self, ops: Ops, batch: ChunkBatch, hidden: Tensor) -> Tensor:
        if self.config.rank_by == "random":
            return self.drawn[batch.chunk_ids.clamp_min(0).long()]
        # only its scores are wanted: the choice is made by another order
        return self._select(ops, batch, hidden, self.free, _no_chunks(1, hidden.device))[0]

    def _ordered(self, scores: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and numbers for which the lowest score and then the lowest number keep."""
        if self.config.prefer == "highest":
            scores = torch.where(scores.isfinite(), -scores, torch.inf)
        if self.config.tie == "late":
            ids = torch.where(ids >= 0, self.chunks - 1 - ids, ids)
        return scores, ids


def _seed(prompt: Prompt) -> int:
    """Of a prompt's seed and all of its ids: another question about a document has chunks of its own."""
    ids = torch.cat([prompt.prefix, prompt.context, prompt.query]).tolist()
    return int(hashlib.sha256(repr((prompt.seed, ids)).encode()).hexdigest()[:15], 16)


def _no_chunks(keep: int, device: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, numbers and slots of `chunk_topk` before the first chunk."""
    slots = torch.arange(keep, dtype=torch.int32, device=device)
    return torch.full((keep,), torch.inf, device=device), torch.full_like(slots, -1), slots
