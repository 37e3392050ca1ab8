"""ParallelComp: chunks prefilled apart, ranked by the query's loss, the best kept, the query read over them.

Source: arXiv:2502.14317v2 (ICML 2025). Where paper and released code differ: chunks are cut by tokens,
scores are float32 means, tokens are selected per kv-head, and keys are evicted before the softmax.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from pcbench.config import Table
from pcbench.errors import ConfigError
from pcbench.reference.bits import pack_bits, words
from pcbench.reference.calibration import bias_in_cache, bias_in_chunks
from pcbench.reference.chunks import split_chunks
from pcbench.reference.packing import ChunkBatch
from pcbench.types import (
    AttentionPlan,
    Cost,
    DeviceKind,
    KVStore,
    ModelRunner,
    ModelSpec,
    Ops,
    Prefilled,
    Prompt,
    Stages,
    causal_flops,
)

__all__ = ["ParallelComp"]

Count = Annotated[int, Field(gt=0)]

# the paper's three rules: zone, first and last layer as fractions of the depth (end exclusive)
PAPER_RULES = (("recent", 1 / 4, 1 / 2), ("middle", 0.0, 1 / 4), ("sink", 3 / 4, 1.0))
# tokens of a micro-batch on a GPU: enough to fill it
GPU_BATCH_TOKENS = 32768


class Rule(Table):
    """Evict the keys of a zone that receive more than `threshold` of the attention.

    Args:
        zone: sink, middle, recent (zones of `width` keys) or all.
        layers: first and last layer, 0-based, inclusive.
        threshold: share of a row's attention.
        rows: last query rows whose mean is taken.
        scope: global: over the kept chunks at the query stage; chunk: inside each chunk as it is prefilled.
        width: keys of the sink and recent zones.
    """

    zone: Literal["sink", "middle", "recent", "all"]
    layers: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.1
    rows: Count = 1
    scope: Literal["global", "chunk"] = "global"
    width: Count = 100


class Eviction(Table):
    """Keep `capacity` context keys per chunk and kv-head, by the attention of the last `rows` query rows.

    Args:
        capacity: keys a chunk keeps per kv-head.
        rows: observation window.
        pool: odd width of the max-pool over neighbours.
    """

    capacity: Count
    rows: Count = 8
    pool: Count = 7


class Config(Table):
    """ParallelComp's parameters.

    Args:
        chunk_tokens: context tokens of a chunk; None takes what the trained length allows.
        keep: chunks kept; all when there are fewer.
        micro_batch: chunks prefilled together; "auto" is 1 on a CPU.
        evict: token eviction inside chunks; None keeps every token.
        calibration: rules of attention calibration, or "paper" for the paper's three.
    """

    chunk_tokens: Count | None = None
    keep: Count = 3
    micro_batch: Count | Literal["auto"] = "auto"
    evict: Eviction | None = None
    calibration: list[Rule] | Literal["paper"] = Field(default_factory=list)

    def rules(self, scope: str, layer: int) -> list[Rule]:
        """Calibration rules of a scope that hold in a layer; the config must be resolved."""
        first_last = ((r, *r.layers) for r in self.calibration if isinstance(r, Rule))
        return [r for r, first, last in first_last if r.scope == scope and first <= layer <= last]

    def resolve(self, spec: ModelSpec, device: DeviceKind) -> Self:
        """Numbers for "auto" and "paper".

        Raises:
            ConfigError: a rule's layers are not the model's.
        """
        rules = _paper_rules(spec.layers) if self.calibration == "paper" else self.calibration
        for i, rule in enumerate(rules):
            first, last = rule.layers
            if not first <= last < spec.layers:
                raise ConfigError(
                    f"parallel_comp: calibration[{i}].layers must be first ≤ last < {spec.layers} for {spec.name}, "
                    f"got {rule.layers}; name layers of this model"
                )
        chunk = self.chunk_tokens or spec.trained_tokens
        batch = self.micro_batch
        if batch == "auto":
            batch = 1 if device == "cpu" else max(1, GPU_BATCH_TOKENS // chunk)
        return self.model_copy(update={"micro_batch": batch, "calibration": list(rules)})

    def cost(self, spec: ModelSpec, tokens: int) -> Cost:
        """Chunks as full forwards of their own; scoring and query stage are small beside them."""
        spans = split_chunks(tokens, min(self.chunk_tokens or spec.trained_tokens, spec.trained_tokens))
        longest = max(end - start for start, end in spans)
        held = longest if self.evict is None else min(longest, self.evict.capacity)
        batch = self.micro_batch if isinstance(self.micro_batch, int) else 1
        slots = min(self.keep, len(spans)) + min(batch, len(spans))
        return Cost(flops=sum(causal_flops(spec, b - a) for a, b in spans), kv_tokens=slots * held)


def _paper_rules(layers: int) -> list[Rule]:
    ranges = [(zone, round(first * layers), round(end * layers) - 1) for zone, first, end in PAPER_RULES]
    return [Rule(zone=zone, layers=[first, last]) for zone, first, last in ranges if first <= last]  # type: ignore[arg-type]


@dataclass(frozen=True)
class Layout:
    """How a prompt is cut: all numbers are known before anything runs."""

    spans: list[tuple[int, int]]
    keep: int
    batch: int
    capacity: int
    warnings: list[str]


class ParallelComp:
    """Chunked prefill with a store of keep + micro_batch slots that never grows."""

    Config = Config
    backends = ("ops",)

    def __init__(self, config: Config, runner: ModelRunner) -> None:
        self.config, self.runner = config, runner

    def layout(self, prompt: Prompt) -> Layout:
        """Cuts a prompt so that no position exceeds the trained ones.

        Raises:
            ConfigError: the query is empty, or template, query and answer alone fill the trained length.
        """
        config, spec = self.config, self.runner.spec
        query = prompt.query.numel()
        if not query:
            raise ConfigError("parallel_comp: a query of at least one token, got none; ask a question")
        room = spec.trained_tokens - prompt.prefix.numel() - query - prompt.new_tokens
        if room < 1:
            raise ConfigError(
                f"parallel_comp: template + query + new tokens below the {spec.trained_tokens} trained positions of "
                f"{spec.name}, got {spec.trained_tokens - room}; shorten the query"
            )
        chunk, warnings = config.chunk_tokens or room, []
        if chunk > room:
            warnings.append(f"chunk_tokens {chunk} cut to {room}: {spec.trained_tokens} trained positions")
            chunk = room
        spans = split_chunks(prompt.context.numel(), chunk)
        longest = prompt.prefix.numel() + max(end - start for start, end in spans)
        kept_rows = longest if config.evict is None else min(config.evict.capacity, longest)
        assert isinstance(config.micro_batch, int), "resolve() first"
        return Layout(
            spans=spans,
            keep=min(config.keep, len(spans)),
            batch=min(config.micro_batch, len(spans)),
            # a slot freed by the chunks becomes the query's; whole words of eviction bits
            capacity=32 * words(max(kept_rows, query + prompt.new_tokens)),
            warnings=warnings,
        )

    def prefill(self, prompt: Prompt, stages: Stages) -> Prefilled:
        """Logits of the first answer token after chunk stage, selection and query stage."""
        layout = self.layout(prompt)
        runner, device = self.runner, self.runner.device
        slots = layout.keep + layout.batch
        store = runner.new_store(slots, layout.capacity, evictions=bool(self.config.calibration))
        best = (
            torch.full((layout.keep,), torch.inf, device=device),
            torch.full((layout.keep,), -1, dtype=torch.int32, device=device),
            torch.arange(layout.keep, dtype=torch.int32, device=device),
        )
        free = torch.arange(layout.keep, slots, dtype=torch.int32, device=device)
        scores = []
        for first in range(0, len(layout.spans), layout.batch):
            batch = ChunkBatch.of(prompt, layout.spans[first : first + layout.batch], first, layout.batch)
            with stages("chunks"):
                hidden = self._prefill_chunks(batch, store, free)
            with stages("selection"):
                score, free = runner.ops.chunk_select(
                    batch.scored(hidden), runner.lm_head(), batch.targets, batch.segments, batch.chunk_ids, free, *best
                )
            scores.append(score)
        with stages("query"):
            state = self._read_query(prompt, layout, store, best[1], best[2], free)
        return Prefilled(
            logits=state.logits,
            state=state,
            spans=layout.spans,
            kept_chunks=best[1],
            chunk_scores=torch.cat(scores)[: len(layout.spans)],
            kept_tokens=lambda: store.held(best[2]),
            kv_bytes=store.nbytes(),
            kv_bytes_predicted=runner.spec.kv_bytes(slots * layout.capacity, runner.dtype.itemsize),
            warnings=layout.warnings,
        )

    def step(self, prefilled: Prefilled, token: Tensor) -> Tensor:
        """Logits after one more token."""
        return self._extend(token, prefilled.state)

    def _prefill_chunks(self, batch: ChunkBatch, store: KVStore, free: Tensor) -> Tensor:
        """Hidden rows of a micro-batch; the context keys go into the first slots of `free`."""
        slots = free[: batch.ids.shape[0]]
        evicting = self.config.evict is not None
        store.begin(slots, 0 if evicting else batch.context_lengths)
        plan = ChunkPlan(self.config, self.runner.spec, batch, slots)
        return self.runner.forward(batch.ids, batch.positions, batch.lengths, store, plan)

    def _read_query(
        self, prompt: Prompt, layout: Layout, store: KVStore, ids: Tensor, slots: Tensor, free: Tensor
    ) -> "State":
        """Encodes the query again over the kept chunks, behind the longest of them."""
        own = free[:1]
        store.begin(own)
        if prompt.prefix.numel() and self.runner.spec.bos_id is not None:
            # a BOS sees only itself, so its key is the same in every chunk: once is enough
            first = ids.where(ids >= 0, len(layout.spans)).min()
            store.skip_first(slots, (ids != first) & (prompt.prefix[:1] == self.runner.spec.bos_id))
        ends = torch.tensor([prompt.prefix.numel() + end - start for start, end in layout.spans], device=ids.device)
        plan = QueryPlan(self.config, self.runner.spec, torch.cat([slots, own])[None], calibrate=True)
        state = State(store, plan, ends[ids.long()].max()[None])
        self._extend(prompt.query, state)
        # decoding goes on with what the query stage evicted
        state.plan = replace(plan, calibrate=False)
        return state

    def _extend(self, tokens: Tensor, state: "State") -> Tensor:
        """Reads tokens [T] at the next positions; logits [1, V] of the last."""
        count = tokens.numel()
        positions = state.position + torch.arange(count, device=tokens.device)
        lengths = torch.full((1,), count, dtype=torch.int32, device=tokens.device)
        hidden = self.runner.forward(tokens[None], positions[None], lengths, state.store, state.plan)
        state.position = state.position + count
        state.logits = hidden[:, -1] @ self.runner.lm_head().T
        return state.logits


@dataclass
class State:
    """What decoding goes on from."""

    store: KVStore
    plan: AttentionPlan
    position: Tensor  # [1] int64, of the next token
    logits: Tensor = field(init=False)  # [1, V]


@dataclass(frozen=True)
class ChunkPlan:
    """Attention inside chunks; evicts tokens and bias keys of the chunk's slot as the rules say."""

    config: Config
    spec: ModelSpec
    batch: ChunkBatch
    slots: Tensor  # [M']

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, store: KVStore, ops: Ops) -> Tensor:
        batch, evict, scale = self.batch, self.config.evict, self.spec.scale
        ragged = {}
        if batch.ragged:
            kv_lengths = batch.lengths[:, None].expand(-1, k.shape[1]).contiguous()
            ragged = {"query_lengths": batch.lengths, "key_lengths": kv_lengths}
        rows = evict.rows if evict else 0
        out, _, mass = ops.calibrated_attention(q, k, v, scale=scale, causal=True, mass_rows=rows, **ragged)
        hidden = None
        if rules := self.config.rules("chunk", layer):
            lengths = {"lengths": batch.lengths, "context_lengths": batch.context_lengths}
            hidden = bias_in_chunks(ops, rules, q, k, v, scale=scale, query_rows=batch.query_rows, **lengths)
        if evict is not None:
            hidden = self._select(layer, mass, k, v, hidden, store, ops)
        if hidden is not None:
            store.evict(layer, self.slots, pack_bits(hidden))
        return out

    def _select(
        self, layer: int, mass: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None, store: KVStore, ops: Ops
    ) -> Tensor | None:
        """Stores the selected keys; bits of evicted ones follow them to their new rows."""
        evict = self.config.evict
        assert evict is not None, "a config that evicts tokens"
        contexts = self.batch.context_lengths[:, None].expand(-1, k.shape[1]).contiguous()
        protect = None if self.spec.bos_id is None else self.batch.ids == self.spec.bos_id
        dropped = None
        if hidden is not None:
            # a key goes only where every head of its group evicts it
            dropped = pack_bits(hidden.unflatten(1, (k.shape[1], -1)).all(2))
        k2, v2, index, lengths = ops.select_tokens(
            mass, k, v, capacity=min(evict.capacity, k.shape[2]), key_lengths=contexts, pool=evict.pool,
            protect=protect, evicted=dropped,
        )  # fmt: skip
        store.select(layer, k2, v2, lengths)
        if hidden is None:
            return None
        group = hidden.shape[1] // index.shape[1]
        return hidden.gather(2, index.clamp_min(0).long().repeat_interleave(group, 1))


@dataclass(frozen=True)
class QueryPlan:
    """Attention of the query and of new tokens over the kept chunks and their own keys."""

    config: Config
    spec: ModelSpec
    slots: Tensor  # [1, K + 1], the last one is the query's own
    calibrate: bool

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, store: KVStore, ops: Ops) -> Tensor:
        rows = store.rows(layer)
        rules = self.config.rules("global", layer) if self.calibrate else []
        if rules:
            store.evict(
                layer, self.slots[0], pack_bits(bias_in_cache(ops, rules, q, rows, self.slots, scale=self.spec.scale))
            )
        out, _ = ops.cached_attention(
            q, rows.k_rows, rows.v_rows, rows.starts, rows.lengths, self.slots,
            scale=self.spec.scale, evicted=rows.evicted, causal_last=True,
        )  # fmt: skip
        return out
