"""The method: chunk stage, selection, query stage."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pcbench.methods.parallel_comp import ranks
from pcbench.methods.parallel_comp.chunk_stage import prefill_chunks
from pcbench.methods.parallel_comp.config import Config
from pcbench.methods.parallel_comp.layout import Layout, lay_out, read_with_bos
from pcbench.methods.parallel_comp.query_stage import State, extend, read_query
from pcbench.methods.parallel_comp.ranking import Ranking, scored_tokens
from pcbench.reference.packing import ChunkBatch
from pcbench.types import KVStore, ModelRunner, Prefilled, Prompt, Stages, no_stages

__all__ = ["ParallelComp"]


class ParallelComp:
    """Chunked prefill with a store of keep + micro_batch slots that never grows."""

    Config = Config
    backends = ("ops",)

    def __init__(self, config: Config, runner: ModelRunner) -> None:
        self.config, self.runner = config, runner

    def prefill(self, prompt: Prompt, stages: Stages) -> Prefilled:
        """Logits of the first answer token after chunk stage, selection and query stage."""
        config, runner = self.config, self.runner
        prompt = read_with_bos(prompt, config, runner.start_ids)
        layout = lay_out(prompt, config, runner)
        if ranks.is_shared(config):
            ranks.lead(config, prompt, runner.ops.backend)
        chunks = _read_chunks(runner, config, layout, prompt, stages)
        ids, slots, store = chunks.ids, chunks.slots, chunks.store
        with stages("query"):
            state = read_query(runner, config, layout, prompt, store, (ids, slots), chunks.free, stages)
        of_layout = (runner.spec, runner.dtype.itemsize)
        return Prefilled(
            logits=state.logits,
            state=state,
            spans=layout.spans,
            kept_chunks=ids,
            chunk_scores=chunks.scores,
            kept_tokens=lambda: store.held(slots),
            kv_bytes=store.nbytes(),
            kv_bytes_predicted=layout.kv_bytes(*of_layout),
            kv_bytes_prompt=layout.kv_bytes(*of_layout, prompt=True),
            warnings=layout.warnings,
        )

    def step(self, prefilled: Prefilled, token: Tensor) -> Tensor:
        """Logits after one more token."""
        state: State = prefilled.state
        extend(self.runner, token, state)
        return state.logits

    def read(self, prefilled: Prefilled, tokens: Tensor) -> Tensor:
        """Last hidden rows [T, E] of given tokens, read over the kept chunks."""
        return extend(self.runner, tokens, prefilled.state)

    @staticmethod
    @torch.inference_mode()
    def follow(runner: Callable[[str, str], ModelRunner]) -> None:
        """On every rank but the first: prefills this rank's chunks of each prompt of the first, until `dismiss`.

        Args:
            runner: makes a runner on the ops backend of that name with that attention of chunks.

        Raises:
            RankLost: another rank has ended.
        """
        while (work := ranks.next_work()) is not None:
            made = runner(work.backend, work.config.attention)
            parts = {name: getattr(work.prompt, name).to(made.device) for name in ("prefix", "context", "query")}
            prompt = replace(work.prompt, **parts)
            layout = lay_out(prompt, work.config, made)
            with suppress(ranks.Settled):
                _read_chunks(made, work.config, layout, prompt, no_stages)

    @staticmethod
    def dismiss() -> None:
        """On the first rank: ends `follow` on the others."""
        ranks.dismiss()


@dataclass(frozen=True)
class Chunks:
    """What the chunk stage leaves: numbers and slots of the kept chunks, a free slot [1], every chunk's score."""

    store: KVStore
    ids: Tensor
    slots: Tensor
    free: Tensor
    scores: Tensor


def _read_chunks(runner: ModelRunner, config: Config, layout: Layout, prompt: Prompt, stages: Stages) -> Chunks:
    """Prefills the chunks, this rank's where ranks share them, and keeps the best of all."""
    shared = ranks.is_shared(config)
    own = ranks.own_chunks(len(layout.spans)) if shared else range(len(layout.spans))
    error: Exception | None = None
    try:
        store, ranking = _prefill_own(runner, config, layout, prompt, own, stages)
    except Exception as caught:
        if not shared:
            raise
        error = caught
    if not shared:
        ids, slots = ranking.kept()
        return Chunks(store, ids, slots, ranking.free[:1], ranking.scores)
    with stages("exchange"):
        ranks.settle(error)
        ids, slots = ranks.collect(ranking, layout, store, own, runner.spec.layers)
    free = torch.full_like(slots[:1], layout.keep)
    return Chunks(store, ids, slots, free, ranking.scores)


def _prefill_own(
    runner: ModelRunner, config: Config, layout: Layout, prompt: Prompt, own: range, stages: Stages
) -> tuple[KVStore, Ranking]:
    """Prefills the chunks `own`, micro-batch by micro-batch; the store holds the best of them."""
    store = runner.new_store(
        layout.slots, layout.capacity, evictions=bool(config.calibration), kv_heads=layout.kv_heads,
        kv_dtype=config.kv_dtype, tail=layout.tail,
    )  # fmt: skip
    ranking = Ranking(config, layout, prompt, runner)
    scored = scored_tokens(config, prompt)
    for first in range(own.start, own.stop, layout.batch):
        spans = layout.spans[first : min(first + layout.batch, own.stop)]
        batch = ChunkBatch.of(prompt, spans, first, layout.batch, scored=scored)
        with stages("chunks"):
            hidden = prefill_chunks(runner, config, layout, batch, store, ranking.free, stages)
        with stages("selection"):
            ranking.offer(batch, hidden, stages)
    return store, ranking
