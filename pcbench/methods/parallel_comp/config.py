"""ParallelComp's parameters."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from pcbench.config import Attention, Count, KeyedTable
from pcbench.errors import ConfigError
from pcbench.methods.parallel_comp.presets import Preset, preset_for
from pcbench.types import Cost, DeviceKind, KVDtype, ModelSpec, causal_flops

__all__ = ["Config", "Eviction", "Rule"]

# the paper's three rules: zone, first and last layer as fractions of the depth (end exclusive)
PAPER_RULES = (("recent", 1 / 4, 1 / 2), ("middle", 0.0, 1 / 4), ("sink", 3 / 4, 1.0))
# tokens of a micro-batch on a GPU: enough to fill it
GPU_BATCH_TOKENS = 32768


class Rule(KeyedTable):
    """Evict the keys of a zone that receive more than `threshold` of the attention.

    Args:
        zone: sink, middle, recent (zones of `width` keys) or all.
        layers: first and last layer, 0-based, inclusive.
        threshold: share of a row's attention.
        rows: last query rows whose mean is taken.
        scope: global: over the kept chunks at the query stage; chunk: inside each chunk as it is prefilled.
        width: keys of the sink and recent zones.
        starts: now: the layer's own attention goes without the keys; next: what reads the cache later does;
            auto: now for global rules, next for rules inside chunks.
        shared: the mean over the heads decides for all of them.
        fill: heads with fewer such keys lose their least attended ones too, so that all lose as many.
        query_keys: global rules may evict the query's own keys.
    """

    zone: Literal["sink", "middle", "recent", "all"]
    layers: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.1
    rows: Count = 1
    scope: Literal["global", "chunk"] = "global"
    width: Count = 100
    starts: Literal["auto", "now", "next"] = "auto"
    shared: bool = False
    fill: bool = False
    query_keys: bool = False

    later: ClassVar[frozenset[str]] = frozenset({"starts", "shared", "fill", "query_keys"})

    @property
    def starts_now(self) -> bool:
        return self.starts == "now" or (self.starts == "auto" and self.scope == "global")


class Eviction(KeyedTable):
    """Keep `capacity` context keys per chunk and head, by the attention of the last `rows` query rows.

    Args:
        capacity: keys a chunk keeps; or share: of a chunk's keys, after the query of all keys. One of them.
        rows: observation window.
        pool: odd width of the max-pool over neighbours.
        group: kv_head: the query heads of a kv-head choose together; query_head: each for itself, on repeated keys.
        when: chunk: as each chunk is prefilled; query: capacity × kept chunks of the whole cache, the query's keys
            included, after the query.
        decode: while decoding, every new token's key displaces the least attended one.
        pool_first: what the BOS of a chunk received counts for its neighbours, in the first chunk always.
    """

    capacity: Count | None = None
    rows: Count = 8
    pool: Count = 7
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    group: Literal["kv_head", "query_head"] = "kv_head"
    when: Literal["chunk", "query"] = "chunk"
    decode: bool = False
    pool_first: bool = True

    later: ClassVar[frozenset[str]] = frozenset({"share", "group", "when", "decode", "pool_first"})

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.capacity is None) == (self.share is None):
            raise ValueError("capacity or share must be given, and not both")
        return self

    def keys_of(self, rows: int) -> int:
        """Keys kept of a chunk of `rows`."""
        wanted = self.capacity if self.capacity is not None else max(1, round((self.share or 1.0) * rows))
        return min(wanted, rows)


class Config(KeyedTable):
    """ParallelComp's parameters.

    Args:
        chunk_tokens: context tokens of a chunk; None and "auto" take the preset's, else what the trained length allows.
        keep: chunks kept; all when there are fewer.
        micro_batch: chunks prefilled together; "auto" is 1 on a CPU, on a GPU what fills it and fits its free memory.
        evict: token eviction; None keeps every token.
        calibration: rules of attention calibration, or "paper" for the paper's three.
        preset: values for the keys that are not given: the paper's setting or that of the released runner.
        rank_by: a chunk's score: the mean loss of the query, of the whole window, or a random number.
        prefer: which scores keep.
        tie: which of equal scores keeps.
        query_tail: score only the last tokens of the query; None scores all.
        score_bos: the query starts with what the tokenizer puts in front of a text, as a BOS, wherever it is read, and
            its loss counts; a tokenizer that puts nothing there changes nothing.
        split: chunks of equal numbers of tokens, or of characters.
        ranks: chunks: under torchrun the processes prefill a prompt's chunks together; without it one does all.
        attention: what computes the attention of chunks where no keys are evicted before it; the reference has its own.
        kv_dtype: int8, int4 or fp8 of the chunks' keys and values; those of the query and the answer are in the model's
            dtype, as all are without it.
    """

    chunk_tokens: Count | None = None
    keep: Count = 3
    micro_batch: Count | Literal["auto"] = "auto"
    evict: Eviction | None = None
    calibration: list[Rule] | Literal["paper"] = Field(default_factory=list)
    preset: Preset | None = None
    rank_by: Literal["query_nll", "window_nll", "random"] = "query_nll"
    prefer: Literal["lowest", "highest"] = "lowest"
    tie: Literal["early", "late"] = "early"
    query_tail: Count | None = None
    score_bos: bool = False
    split: Literal["tokens", "chars"] = "tokens"
    ranks: Literal["one", "chunks"] = "one"
    attention: Attention = "auto"
    kv_dtype: KVDtype | None = None

    later: ClassVar[frozenset[str]] = frozenset(
        {"preset", "rank_by", "prefer", "tie", "query_tail", "score_bos", "split", "ranks", "attention", "kv_dtype"}
    )
    _fit_memory: bool = PrivateAttr(default=False)

    @model_validator(mode="before")
    @classmethod
    def _auto_is_not_given(cls, data: Any) -> Any:
        """A suite's preset can take back what its cells say."""
        if isinstance(data, dict) and data.get("chunk_tokens") == "auto":
            return {key: value for key, value in data.items() if key != "chunk_tokens"}
        return data

    @property
    def uses_ranks(self) -> bool:
        """Whether a prompt is shared over ranks."""
        return self.ranks == "chunks"

    @property
    def fits_memory(self) -> bool:
        """Whether a micro-batch may be cut to what memory is free: it was "auto" on a GPU."""
        return self._fit_memory

    def sized(self, tokens: int) -> Self:
        """The same with slots of so many keys together, where no token eviction is given.

        Of one chunk at a time each slot, of which one more than `keep` are there, holds its share of the keys; nothing
        given, chunks are as long as the keys are many and one is kept.
        """
        if self.evict is not None:
            return self
        chosen: dict[str, Any] = {"chunk_tokens": tokens, "keep": 1, "micro_batch": 1} | self.explicit()
        evict = Eviction(capacity=max(1, tokens // (chosen["keep"] + 1)))
        return self.model_copy(update=chosen | {"evict": evict})

    def rules(self, scope: str, layer: int) -> list[Rule]:
        """Calibration rules of a scope that hold in a layer; the config must be resolved."""
        first_last = ((r, *r.layers) for r in self.calibration if isinstance(r, Rule))
        return [r for r, first, last in first_last if r.scope == scope and first <= layer <= last]

    def resolve(self, spec: ModelSpec, device: DeviceKind, task: str = "") -> Self:
        """Numbers for "auto", "paper" and the preset.

        Args:
            spec: the model.
            device: what it runs on.
            task: id of the task, for presets with values per task.

        Raises:
            ConfigError: a rule's layers are not the model's, or the preset does not know the model.
        """
        preset = preset_for(self.preset, spec, task)
        config = self.model_copy(update=preset.config | self.explicit())
        if preset.official and config.chunk_tokens is None:
            raise ConfigError(
                f'parallel_comp: preset "{self.preset}" for a model of the released runner, got {spec.name}; '
                'set chunk_tokens or use preset "paper"'
            )
        rules = _paper_rules(spec.layers) if config.calibration == "paper" else config.calibration
        for i, rule in enumerate(rules):
            first, last = rule.layers
            if not first <= last < spec.layers:
                raise ConfigError(
                    f"parallel_comp: calibration[{i}].layers must be first ≤ last < {spec.layers} for {spec.name}, "
                    f"got {rule.layers}; name layers of this model"
                )
        chunk = config.chunk_tokens or spec.trained_tokens
        batch, automatic = config.micro_batch, config.micro_batch == "auto"
        if batch == "auto":
            batch = 1 if device == "cpu" else max(1, GPU_BATCH_TOKENS // chunk)
        evict = config.evict and Eviction(**preset.evict | config.evict.explicit())
        if config.kv_dtype is not None:
            _check_quantized(evict, rules)
        calibration = [Rule(**preset.rule | rule.explicit()) for rule in rules]
        resolved = config.model_copy(update={"micro_batch": batch, "evict": evict, "calibration": calibration})
        resolved._fit_memory = (automatic and device != "cpu") or self._fit_memory
        return resolved

    def cost(self, spec: ModelSpec, tokens: int) -> Cost:
        """Chunks as full forwards of their own; scoring and query stage are small beside them."""
        # as `split_chunks` cuts, without a list of them
        chunks = max(1, -(-tokens // min(self.chunk_tokens or spec.trained_tokens, spec.trained_tokens)))
        short, longer = divmod(tokens, chunks)
        longest = short + bool(longer)
        held, groups = longest, 1
        if self.evict is not None:
            held = self.evict.keys_of(longest) if self.evict.when == "chunk" else longest
            groups = spec.heads // spec.kv_heads if self.evict.group == "query_head" else 1
        batch = self.micro_batch if isinstance(self.micro_batch, int) else 1
        slots = min(self.keep, chunks) + min(batch, chunks)
        flops = longer * causal_flops(spec, short + 1) + (chunks - longer) * causal_flops(spec, short)
        return Cost(flops=flops, kv_tokens=slots * held * groups)


def _check_quantized(evict: Eviction | None, rules: list[Rule] | Literal["paper"]) -> None:
    """Raises ConfigError where keys of a quantised cache would be read or moved by themselves."""
    found = None
    if evict is not None and (evict.when == "query" or evict.decode):
        found = "evict from the whole cache"
    elif any(isinstance(rule, Rule) and rule.scope == "global" for rule in rules):
        found = "calibration by global rules"
    if found:
        raise ConfigError(
            f"parallel_comp: kv_dtype where chunks evict and calibrate as they are read, got {found}; leave one out"
        )


def _paper_rules(layers: int) -> list[Rule]:
    ranges = [(zone, round(first * layers), round(end * layers) - 1) for zone, first, end in PAPER_RULES]
    return [Rule(zone=zone, layers=[first, last]) for zone, first, last in ranges if first <= last]  # type: ignore[arg-type]
