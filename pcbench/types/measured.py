"""What is measured (Cell) and what came out (Record, Sample)."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from pcbench.types.titles import placed, weighed

__all__ = ["CHAT_DATE", "SCHEMA", "Cell", "DeviceKind", "Part", "Record", "Sample", "Status", "digest"]

SCHEMA = 1

Status = Literal["ok", "parity_failed", "unsupported", "out_of_memory", "timeout", "data_missing", "error"]
DeviceKind = Literal["cpu", "cuda", "rocm"]

IDENTITY = (
    "suite", "kind", "model", "method", "method_config", "backend", "device", "dtype", "workload", "context_tokens",
    "seed",
)  # fmt: skip
# the date that chat templates are told, in every run, so that prompts are the same tomorrow
CHAT_DATE = "2024-07-26"
# method and backend of exact attention by stock code, the one baseline of speed-ups, peaks and scores of methods
FULL = ("full", "torch")
# choices that belong to the identity only where they are not these
UNCHANGED: dict[str, Any] = {
    "templates": "auto",
    "chat": "auto",
    "prompt_tokens": None,
    "chat_date": CHAT_DATE,
    "chat_arguments": {},
    "thinking": "cut",
    "compile": False,
    "engine": None,
    "quantize": None,
}


def digest(value: object, length: int = 12) -> str:
    """First `length` hex digits of the sha256 of `value` as canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model × method × backend × workload × length: the unit that becomes a record.

    Of a kernel: no model and no length, the workload is the op with its shape, the method the op or a baseline.
    The first block is what the measurement *is* and makes the key; the second is how it is taken.
    """

    suite: str
    kind: str
    model: str
    method: str
    method_config: dict[str, Any]
    backend: str
    device: DeviceKind
    dtype: str
    workload: str
    context_tokens: int | None
    seed: int

    task: str
    repeats: int
    timed: bool
    prompts: int
    # what the suite calls it, and what it is called among the cells of its run
    label: str | None = None
    title: str = ""

    # of a record's prompt, as the task's `Request` names them: part of what it is where they are not these
    templates: str = "auto"
    chat: str = "auto"
    prompt_tokens: int | None = None
    chat_date: str = CHAT_DATE
    chat_arguments: dict[str, Any] = field(default_factory=dict)
    # cut: only what a model says behind its thoughts is scored; keep: all of it
    thinking: str = "cut"
    # norms, MLPs and rotations of the model by torch.compile
    compile: bool = False
    # the serving engine that computes in place of pcbench, as of --engine
    engine: str | None = None
    # the scheme of the model's weights; None leaves them as they are
    quantize: str | None = None
    # of a run in shards: the first of the prompts that are its shard's, and the step to the next
    share: tuple[int, int] = (0, 1)

    @property
    def indices(self) -> range:
        """The prompts that are taken, of a run in shards its shard's."""
        first, step = self.share
        return range(first, self.prompts, step)

    @property
    def key(self) -> str:
        """Identity across machines and commits: 12 hex digits over the first block of fields and changed choices."""
        return digest({name: getattr(self, name) for name in IDENTITY} | self._changed(*UNCHANGED))

    @property
    def group(self) -> str:
        """The cells that share model, workload and length are measured interleaved in one process."""
        same = [self.suite, self.kind, self.model, self.dtype, self.workload, self.context_tokens, self.seed]
        # a limit of tokens is a method's, not the group's
        changed = self._changed("templates", "chat", "chat_date", "chat_arguments", "thinking", "compile", "quantize")
        return digest([*same, changed] if changed else same)

    @property
    def is_full(self) -> bool:
        """Whether it is the baseline that methods are held against."""
        return (self.method, self.backend) == FULL

    @property
    def name(self) -> str:
        """How a person reads it: `ParallelComp on passkey, 8,192 tokens`."""
        title = weighed(self.title or f"{self.method}/{self.backend}", self.quantize)
        return placed(title, self.workload, self.context_tokens)

    def _changed(self, *names: str) -> dict[str, Any]:
        return {name: x for name in names if (x := getattr(self, name)) != UNCHANGED[name]}


@dataclass(kw_only=True)
class Record:
    """A cell's result row; null where a field does not apply. Field order is the column order of `records.csv`."""

    schema: int = SCHEMA
    run: str
    suite: str
    kind: str  # of measurement, of `registry.KINDS` where it was measured
    group: str
    cell: str
    # what was measured
    model: str
    method: str
    label: str | None = None  # what the suite calls it
    method_config: dict[str, Any] = field(default_factory=dict)
    backend: str
    device: DeviceKind
    dtype: str
    quantize: str | None = None  # the scheme of the model's weights; null where they are as they were
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
    ms_ci_low: float | None = None  # of the median
    ms_ci_high: float | None = None
    outliers: int | None = None  # passes beyond 1.5 interquartile ranges; counted, never dropped
    wall_ms_p50: float | None = None  # monotonic clock beside a GPU's events
    repeats: int | None = None
    samples_ms: list[float] | None = None
    warmup_ms: list[float] | None = None  # untimed passes before; the first holds what only a first pass does
    compile_ms: float | None = None  # of what `suite.compile` compiles, before any pass; null where nothing is
    stages_ms: dict[str, float] | None = None
    # of `full` on a GPU: a pass by each kernel of SDPA that runs there; the timed passes are those of the fastest
    sdpa_ms: dict[str, float] | None = None
    # what computed the attention of chunks, the kernel of the most calls first; where times chose, those of a call
    attention_kernel: str | None = None
    attention_ms: dict[str, float] | None = None
    prefill_tokens_per_s: float | None = None
    chunks_per_s: float | None = None
    decode_ms_per_token: float | None = None  # median of `decode_samples_ms`
    decode_samples_ms: list[float] | None = None  # of each timed pass the median step of its answer
    # steps without the time of their launches: a graph once captured for all, or for each; null where launched
    decode_replayed: Literal["once", "each"] | None = None
    decode_ms_ci_low: float | None = None  # of the median
    decode_ms_ci_high: float | None = None
    # by a serving engine, as a client sees it; only where its answers are those of `full`, and never part of a ratio
    engine: str | None = None  # as of --engine
    served_model: str | None = None  # as the engine names it
    served_ms_p50: float | None = None  # from the request to the first token, of an answer of one
    served_ms_ci_low: float | None = None  # of the median
    served_ms_ci_high: float | None = None
    served_samples_ms: list[float] | None = None
    served_prefill_ms: float | None = None  # of the prompt by the engine's own clock, median
    served_tokens_per_s: float | None = None  # of an answer after its first token, median
    # memory, of one prompt, each pass in a process of its own while no other holds the model
    peak_bytes: int | None = None  # of the prefill; `phase_bytes` has decoding, too
    peak_samples_bytes: list[int] | None = None  # of every pass; `peak_bytes` is their median
    reserved_bytes: int | None = None  # allocator, GPU, at most
    driver_bytes: int | None = None  # in use on the whole GPU at most, sampled; contexts of this run's processes in it
    phase_bytes: dict[str, int] | None = None
    weights_bytes: int | None = None  # of the model, every storage once, with scales of quantised ones
    # library, version, scheme, bits, group_size (weights of a scale; null: a row), scale_dtype, layers, scheme_bytes
    # (what the scheme says of all weights) and left_alone (modules whose weights are as they were)
    quantization: dict[str, Any] | None = None
    kv_bytes: int | None = None
    kv_bytes_predicted: int | None = None
    kv_bytes_prompt: int | None = None  # what stays of the prompt, without room for an answer
    budget_bytes: int | None = None
    chunks_that_fit: int | None = None  # in `budget_bytes` at the same time, none dropped
    # template, context, query and new tokens that `budget_bytes` hold, of chunks with every chunk kept, whatever `keep`
    # says: a store of `keep` chunks is as large at any length
    longest_context_tokens: int | None = None
    fit_ratio: float | None = None  # chunks that fit, to the same without token eviction
    # accuracy, 0…1
    score: float | None = None
    score_name: str | None = None
    scorer: str | None = None
    answer_rule: str | None = None  # by which thoughts were cut from answers before scoring; null where none had one
    n_samples: int | None = None
    skipped_records: int | None = None  # of the task, which could not be read or scored; the warnings name them
    score_ci_low: float | None = None
    score_ci_high: float | None = None
    key_chunk_kept: float | None = None
    prompts: str | None = None  # whose prompt texts: official, or ours with their version; a choice of chat template
    prompt_tokens: int | None = None  # of a record's prompt at most, where the method has a limit of its own
    # score minus that of `full` in the same run, record by record; p by McNemar where scores are 0 or 1
    score_vs_full: float | None = None
    score_vs_full_ci_low: float | None = None
    score_vs_full_ci_high: float | None = None
    score_vs_full_p: float | None = None
    score_vs_full_pairs: int | None = None  # of an average, those of its smallest dataset
    # loss on a text, in nats a token: the mean over windows of that of their last tokens
    scored_tokens: int | None = None  # of a window
    nll: float | None = None
    nll_ci_low: float | None = None
    nll_ci_high: float | None = None
    perplexity: float | None = None  # e to that mean; null from 10¹⁸ on
    nll_by_position: list[float] | None = None  # of equal parts of a window, where nothing is left out
    # minus that of `full` in the same run, window by window
    nll_vs_full: float | None = None
    nll_vs_full_ci_low: float | None = None
    nll_vs_full_ci_high: float | None = None
    nll_vs_full_pairs: int | None = None
    # speed-ups, never mixed; filled only where parity passed
    baseline: str | None = None
    speedup_vs_full: float | None = None
    speedup_vs_full_ci_low: float | None = None
    speedup_vs_full_ci_high: float | None = None
    # of a token of the answer
    decode_speedup_vs_full: float | None = None
    decode_speedup_vs_full_ci_low: float | None = None
    decode_speedup_vs_full_ci_high: float | None = None
    speedup_vs_reference: float | None = None
    speedup_vs_reference_ci_low: float | None = None
    speedup_vs_reference_ci_high: float | None = None
    # of kernels, against the fastest baseline that ran
    speedup_vs_baseline: float | None = None
    speedup_vs_baseline_ci_low: float | None = None
    speedup_vs_baseline_ci_high: float | None = None
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
    telemetry: str | None = None  # where it came from: nvml, amdsmi, none
    telemetry_summary: dict[str, float | str] | None = None
    commit: str | None = None
    dirty: bool | None = None
    started_at: str | None = None
    repro_command: str | None = None

    @property
    def is_full(self) -> bool:
        """Whether it is the baseline that methods are held against."""
        return (self.method, self.backend) == FULL

    @property
    def compared_kv_bytes(self) -> int | None:
        """The size that methods are compared by: of the prompt alone, unless only the size with an answer is known."""
        return self.kv_bytes if self.kv_bytes_prompt is None else self.kv_bytes_prompt

    @classmethod
    def of(cls, cell: Cell, **fields: Any) -> "Record":
        """A record that says what the cell says, and `fields`."""
        same = {name: getattr(cell, name) for name in (*IDENTITY, "label", "prompt_tokens", "engine", "quantize")}
        return cls(group=cell.group, cell=cell.key, **(same | fields))


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
    answer_rule: str | None = None  # by which a thought was cut from the prediction before scoring
    prompt_sha256: str
    kept_chunks: list[int] | None = None
    chunk_scores: list[float | None] | None = None
    key_chunk: int | None = None
    prefill_ms: float | None = None
    index: int | None = None  # of the prompt in its cell, in accuracy suites
    tokens: int | None = None  # of the prompt as it was read
    tokens_before: int | None = None  # of the prompt before its middle was cut out
    words: int | None = None  # of the record as its authors count them
    finish: Literal["end", "length"] | None = None  # what ended the answer
    key_depth: float | None = None  # where the needle begins, as a share of the context
    chunks: int | None = None
    chunk_tokens: int | None = None
    kept_tokens: int | None = None
    kv_bytes: int | None = None
    kv_bytes_prompt: int | None = None
    nll: float | None = None  # of a window, mean over its scored tokens
    nll_by_position: list[float] | None = None
    # by a serving engine, as in the record
    served_ms: float | None = None
    served_prefill_ms: float | None = None
    served_tokens_per_s: float | None = None
    cached_tokens: int | None = None  # of the prompt that the engine had already; its times count only where none
    warnings: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Part:
    """What a shard has of a cell besides its record and samples: a line of `parts.jsonl`."""

    cell: str
    prompts: int  # of the whole cell
    ended_at: int | None = None  # the prompt at which it ended; null where none did, or before the first
    skipped: dict[str, str] = field(default_factory=dict)  # prompt → why its record is none
    attention_warnings: list[str] = field(default_factory=list)  # of what computed the attention of chunks
