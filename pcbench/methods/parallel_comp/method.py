"""The method: chunk stage, selection, query stage."""

from dataclasses import replace

from torch import Tensor

from pcbench.methods.parallel_comp.chunk_stage import prefill_chunks
from pcbench.methods.parallel_comp.config import Config
from pcbench.methods.parallel_comp.layout import lay_out, read_with_bos
from pcbench.methods.parallel_comp.query_stage import extend, read_query
from pcbench.methods.parallel_comp.ranking import Ranking, scored_tokens
from pcbench.reference.packing import ChunkBatch
from pcbench.types import ModelRunner, Prefilled, Prompt, Stages

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
        prompt = read_with_bos(prompt, config, runner.spec)
        layout = lay_out(prompt, config, runner)
        store = runner.new_store(
            layout.slots, layout.capacity, evictions=bool(config.calibration), kv_heads=layout.kv_heads
        )
        ranking = Ranking(config, layout, prompt, runner)
        for first in range(0, len(layout.spans), layout.batch):
            spans = layout.spans[first : first + layout.batch]
            batch = ChunkBatch.of(prompt, spans, first, layout.batch, scored=scored_tokens(config, prompt))
            with stages("chunks"):
                hidden = prefill_chunks(runner, config, layout, batch, store, ranking.free)
            with stages("selection"):
                ranking.offer(batch, hidden)
        ids, slots = ranking.kept()
        with stages("query"):
            state = read_query(runner, config, layout, prompt, store, (ids, slots), ranking.free[:1])
        stored = replace(runner.spec, kv_heads=layout.kv_heads)
        return Prefilled(
            logits=state.logits,
            state=state,
            spans=layout.spans,
            kept_chunks=ids,
            chunk_scores=ranking.scores,
            kept_tokens=lambda: store.held(slots),
            kv_bytes=store.nbytes(),
            kv_bytes_predicted=stored.kv_bytes(layout.slots * layout.capacity, runner.dtype.itemsize),
            warnings=layout.warnings,
        )

    def step(self, prefilled: Prefilled, token: Tensor) -> Tensor:
        """Logits after one more token."""
        return extend(self.runner, token, prefilled.state)
