"""The words all floors share: what is measured (Cell), what came out (Record, Sample), and the protocols between floors.

Plain data; importing this module imports no torch.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Answered",
    "AttentionPlan",
    "Cell",
    "DeviceKind",
    "KVRows",
    "KVStore",
    "Kind",
    "Method",
    "ModelRunner",
    "ModelSpec",
    "Ops",
    "Prefilled",
    "Prompt",
    "Record",
    "Sample",
    "Stages",
    "Status",
    "Tokenizer",
    "digest",
]

SCHEMA = 1

Kind = Literal["prefill", "throughput", "memory", "kernel", "accuracy", "perplexity"]
Status = Literal["ok", "parity_failed", "unsupported", "out_of_memory", "timeout", "data_missing", "error"]
DeviceKind = Literal["cpu", "cuda", "rocm"]


def digest(value: object, length: int = 12) -> str:
    """First `length` hex digits of the sha256 of `value` as canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model × method × backend × workload × length: the unit that becomes a record.

    The first block is what the measurement *is* and makes the key; the second is how it is taken.
    """

    suite: str
    kind: Kind
    model: str
    method: str
    method_config: dict[str, Any]
    backend: str
    device: DeviceKind
    dtype: str
    workload: str
    context_tokens: int
    seed: int

    task: str
    repeats: int
    timed: bool
    prompts: int

    @property
    def key(self) -> str:
        """Identity across machines and commits: 12 hex digits over the first block of fields."""
        names = (
            "suite kind model method method_config backend device dtype workload context_tokens seed".split()
        )
        return digest({name: getattr(self, name) for name in names})

    @property
    def group(self) -> str:
        """The cells that share model, workload and length are measured interleaved in one process."""
        return digest([self.suite, self.kind, self.model, self.dtype, self.workload, self.context_tokens, self.seed])

    @property
    def name(self) -> str:
        """How a person reads it: `parallel_comp/cpu @ passkey 8192`."""
        return f"{self.method}/{self.backend} @ {self.workload} {self.context_tokens}"


@dataclass(kw_only=True)
class Record:
    """A cell's result row; null where a field does not apply. Field order is the column order of `records.csv`."""

    schema: int = SCHEMA
    run: str
    suite: str
    kind: Kind
    group: str
    cell: str
    # what was measured
    model: str
    method: str
    method_config: dict[str, Any] = field(default_factory=dict)
    backend: str
    device: DeviceKind
    dtype: str
    seed: int
    workload: str
    task: str | None = None
    context_tokens: int | None = None
    chunk_tokens: int | None = None
    chunks: int | None = None
    chunks_kept: int | None = None
    kept_tokens: int | None = None
    # how it ended
    status: Status = "ok"
    reason: str | None = None
    warnings: list[str] = field(default_factory=list)
    # agreement with the float64 reference: the op with the largest error-to-bound ratio, and every op
    parity_err: float | None = None
    parity_bound: float | None = None
    parity_ops: dict[str, dict[str, float]] | None = None
    # time
    ms_p10: float | None = None
    ms_p50: float | None = None
    ms_p90: float | None = None
    repeats: int | None = None
    samples_ms: list[float] | None = None
    stages_ms: dict[str, float] | None = None
    prefill_tokens_per_s: float | None = None
    chunks_per_s: float | None = None
    decode_ms_per_token: float | None = None
    # memory
    peak_bytes: int | None = None
    kv_bytes: int | None = None
    kv_bytes_predicted: int | None = None
    # accuracy, 0…1
    score: float | None = None
    score_name: str | None = None
    scorer: str | None = None
    n_samples: int | None = None
    score_ci_low: float | None = None
    score_ci_high: float | None = None
    key_chunk_kept: float | None = None
    # two speed-ups, never mixed; filled only where parity passed
    baseline: str | None = None
    speedup_vs_full: float | None = None
    speedup_vs_full_ci_low: float | None = None
    speedup_vs_full_ci_high: float | None = None
    speedup_vs_reference: float | None = None
    speedup_vs_reference_ci_low: float | None = None
    speedup_vs_reference_ci_high: float | None = None
    # kernel rows
    op: str | None = None
    shape: str | None = None
    tflops: float | None = None
    gib_per_s: float | None = None
    ceiling_ratio: float | None = None
    # provenance
    gpu: str | None = None
    arch: str | None = None
    torch: str | None = None
    runtime: str | None = None
    telemetry: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    started_at: str | None = None
    repro_command: str | None = None


@dataclass(kw_only=True)
class Sample:
    """One prompt's result: a line of `samples.jsonl`."""

    cell: str
    task: str
    id: str
    prediction: str
    answers: list[str]
    score: float | None
    scorer: str | None
    prompt_sha256: str
    kept_chunks: list[int] | None = None
    chunk_scores: list[float] | None = None
    key_chunk: int | None = None
    prefill_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What methods need to know of a model, read from its config."""

    name: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    vocab: int
    parameters: int
    trained_tokens: int
    eos_ids: tuple[int, ...] = ()
    bos_id: int | None = None

    def kv_bytes(self, tokens: int, itemsize: int) -> int:
        """Bytes of the keys and values of `tokens` tokens in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * itemsize * tokens


@dataclass(frozen=True, eq=False)
class Prompt:
    """A request as token ids on the device.

    Args:
        prefix: [A] int64; template and instruction before the context.
        context: [N] int64.
        query: [n] int64, n ≥ 1; the question and the template after it.
        new_tokens: room reserved for the answer.
    """

    prefix: "Tensor"
    context: "Tensor"
    query: "Tensor"
    new_tokens: int

    @property
    def context_tokens(self) -> int:
        """Template + context + query + reserved new tokens."""
        return self.prefix.numel() + self.context.numel() + self.query.numel() + self.new_tokens


@dataclass(kw_only=True)
class Prefilled:
    """What a prefill leaves behind: the next token's logits and whatever decoding goes on from.

    `kept_chunks` and `chunk_scores` stay on the device until somebody reads them.
    """

    logits: "Tensor"  # [1, V]
    state: Any
    chunk_tokens: int | None = None
    chunks: int | None = None
    kept_chunks: "Tensor | None" = None  # [K] int32, ascending
    chunk_scores: "Tensor | None" = None  # [C] float32
    kept_tokens: "int | Tensor | None" = None  # per-layer, per-head mean of the stored context keys
    kv_bytes: int | None = None
    kv_bytes_predicted: int | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A greedy continuation."""

    tokens: list[int]
    decode_ms: list[float]


class Stages(Protocol):
    """Names the parts of a prefill while it runs."""

    def __call__(self, name: str) -> AbstractContextManager[None]: ...


class Tokenizer(Protocol):
    """Text to ids and back, without special tokens; a prompt starts with `start_ids` (the BOS where a model has one)."""

    start_ids: list[int]

    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: Sequence[int]) -> str: ...


@dataclass(frozen=True, eq=False)
class KVRows:
    """One layer of a store as the ops read it (see `pcbench.reference.attention`)."""

    k_rows: "Tensor"  # [T, D]
    v_rows: "Tensor"  # [T, D]
    starts: "Tensor"  # [N, Hkv] int32
    lengths: "Tensor"  # [N, Hkv] int32
    evicted: "Tensor | None"  # [N, H, W] int32
    longest: int  # rows a segment can hold


class KVStore(Protocol):
    """One request's keys and values, all layers, in slots."""

    def begin(self, slots: "Tensor", rows: "Tensor | int | None" = None) -> None:
        """The next forward writes into `slots` [M] int32.

        Args:
            slots: [M] int32 on the device.
            rows: [M] or one number: leading rows of each batch row to keep, replacing what the slot held
                (0: nothing, `select` will). None appends the forward's valid rows.
        """
        ...

    def select(self, layer: int, k: "Tensor", v: "Tensor", lengths: "Tensor") -> None:
        """Replace what this forward wrote for `layer` by a selection: k, v [M, Hkv, C, D], lengths [M, Hkv] int32."""
        ...

    def rows(self, layer: int) -> KVRows: ...
    def nbytes(self) -> int: ...


class Ops(Protocol):
    """The ops of one backend, by the names in `pcbench.reference.__all__`."""

    backend: str

    def __getattr__(self, name: str) -> Any: ...


class AttentionPlan(Protocol):
    """A method's word per layer, called with post-RoPE q [M, H, T, D] and k, v [M, Hkv, T, D]; returns [M, H, T, D]."""

    def __call__(
        self, layer: int, q: "Tensor", k: "Tensor", v: "Tensor", store: KVStore, ops: Ops
    ) -> "Tensor": ...


class ModelRunner(Protocol):
    """A decoder seen by methods: forwards whose attention and cache the method decides."""

    spec: ModelSpec

    @property
    def device(self) -> "Any": ...
    @property
    def dtype(self) -> "Any": ...
    @property
    def ops(self) -> Ops: ...
    def new_store(self, slots: int, capacity: int, *, evictions: bool = False) -> KVStore: ...
    def forward(
        self, ids: "Tensor", positions: "Tensor", lengths: "Tensor", store: KVStore, plan: AttentionPlan
    ) -> "Tensor":
        """[M, T] ids and positions, [M] valid tokens → last hidden rows [M, T, E], final norm applied."""
        ...

    def lm_head(self) -> "Tensor":
        """[V, E]."""
        ...

    def stock_forward(self, ids: "Tensor", cache: Any | None) -> "tuple[Tensor, Any]":
        """The model's own SDPA forward: [1, T] ids → logits of the last row [1, V] and its cache."""
        ...


class Method(Protocol):
    """A way to turn a long prompt into the first answer token and the rest of the answer."""

    def prefill(self, prompt: Prompt, stages: Stages) -> Prefilled: ...
    def decode(self, prefilled: Prefilled, new_tokens: int) -> Answered: ...
