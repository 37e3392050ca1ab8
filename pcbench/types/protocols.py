"""What methods, models and the harness know of each other."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from pcbench.errors import ConfigError
from pcbench.types.costs import Cost
from pcbench.types.kv_dtypes import KVDtype
from pcbench.types.measured import CHAT_DATE, DeviceKind
from pcbench.types.pressed import PressedModel
from pcbench.types.stores import KVStore, RaggedKVStore, Segments

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "AttentionPlan",
    "Method",
    "MethodConfig",
    "ModelRunner",
    "ModelSpec",
    "Ops",
    "Prefilled",
    "Prompt",
    "Rotary",
    "Rows",
    "Stages",
    "Tokenizer",
    "beyond_training",
    "no_stages",
]


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
    outer_parameters: int = 0  # of them those of embedding and head
    trained_tokens: int
    eos_ids: tuple[int, ...] = ()
    trained: bool = True  # False: random weights, whose answers mean nothing
    weights: str | None = None  # what they are, where they are not as they were trained
    score_scale: float | None = None  # of the attention scores; None means 1/√D
    logit_scale: float = 1.0  # of what the head gives
    config_sha256: str = ""  # of the numbers that make it this architecture, whatever its weights
    # what its config says of dual chunk attention: chunk_size, local_size, original_max_position_embeddings
    dual_chunk: tuple[int, int, int] | None = None

    @property
    def scale(self) -> float:
        """Of the attention scores."""
        return float(self.head_dim**-0.5) if self.score_scale is None else self.score_scale

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
        start_tokens: ids at the front of the prefix that begin every text, as a BOS; no instruction.
        characters: where in the context's text each of its tokens starts; None where that is not known.
        seed: with the ids, what a method's random choices come from.
        spans: chunks that whoever asks wants, which divide the context; None lets a method choose them.
    """

    prefix: "Tensor"
    context: "Tensor"
    query: "Tensor"
    new_tokens: int
    start_tokens: int = 0
    characters: Sequence[int] | None = None
    seed: int = 0
    spans: list[tuple[int, int]] | None = None

    def __post_init__(self) -> None:
        if not any(part.numel() for part in (self.prefix, self.context, self.query)):
            raise ConfigError("prompt: a token at least to read, got none; give a context or a question")

    @property
    def context_tokens(self) -> int:
        """Template + context + query + reserved new tokens."""
        return self.prefix.numel() + self.context.numel() + self.query.numel() + self.new_tokens


def beyond_training(prompt: Prompt, spec: ModelSpec) -> list[str]:
    """A warning where a request has more positions than the model was trained on."""
    tokens, trained = prompt.context_tokens, spec.trained_tokens
    return [f"{tokens} positions, trained on {trained}"] if tokens > trained else []


@dataclass(kw_only=True)
class Prefilled:
    """What a prefill leaves behind: the next token's logits and whatever decoding goes on from.

    `kept_chunks` and `chunk_scores` stay on the device until somebody reads them.
    """

    logits: "Tensor"  # [1, V]
    state: Any
    # stored keys of template and context, mean over layers and heads; with the query's where a method chose among them
    kept_tokens: "Callable[[], float]"  # reading it may wait for the device
    kv_bytes: int
    kv_bytes_predicted: int
    kv_bytes_prompt: int | None = None  # of `kv_bytes` without room for an answer; None where nobody knows
    spans: list[tuple[int, int]] | None = None  # of each chunk in the context
    kept_chunks: "Tensor | None" = None  # [K] int32, ascending
    chunk_scores: "Tensor | None" = None  # [C] float32
    warnings: list[str] = field(default_factory=list)


class Stages(Protocol):
    """Names the parts of a prefill while it runs."""

    def __call__(self, name: str) -> AbstractContextManager[None]: ...


def no_stages(name: str) -> AbstractContextManager[None]:
    """Stages that nobody wants to know."""
    return nullcontext()


class Tokenizer(Protocol):
    """Text to ids and back, without special tokens.

    `name` is the model's id or path; `start_ids` are what it puts in front of every text (a BOS, several ids or
    nothing), `bos_id` what it calls its BOS, put there or not; `end_id` ends an answer.
    """

    start_ids: list[int]

    @property
    def name(self) -> str: ...
    @property
    def bos_id(self) -> int | None: ...
    @property
    def end_id(self) -> int | None: ...

    def encode(self, text: str) -> list[int]: ...
    def encode_with_starts(self, text: str) -> tuple[list[int], list[int] | None]:
        """The same ids, and the character at which each begins; None where the tokenizer cannot say."""
        ...

    def decode(self, ids: Sequence[int]) -> str: ...
    def chat(
        self, before: str, after: str, *, date: str = CHAT_DATE, arguments: Mapping[str, Any] = MappingProxyType({})
    ) -> tuple[str, str] | None:
        """Text before and after a context with the model's chat template around both; None without one.

        The template brings its own start ids as text. It is told `date`, YYYY-MM-DD, for today's, and `arguments` of
        its own.

        Raises:
            ConfigError: the template fails, holds the context other than once, or has no such argument.
        """
        ...


class Ops(Protocol):
    """The ops of one backend, by the names in `pcbench.reference.__all__`."""

    backend: str

    def __getattr__(self, name: str) -> Any: ...


class AttentionPlan(Protocol):
    """A method's word per layer, called with post-RoPE q [M, H, T, D] and k, v [M, Hkv, T, D]; returns [M, H, T, D]."""

    def __call__(self, layer: int, q: "Tensor", k: "Tensor", v: "Tensor", store: Any, ops: Ops) -> "Tensor": ...


class Rows(Protocol):
    """Which tokens of a forward the next layer reads."""

    def __call__(self, layer: int) -> "tuple[Tensor | None, Tensor] | None":
        """Asked before layer `layer`, when the one before it has run.

        Returns:
            rows [M, T'] int64 of what the layer before gave, ascending, None for all of them, and [M, T'] of the
            forward's own tokens, as those are in all layers together; None while all of these are read.
        """
        ...


class Rotary(Protocol):
    """How the keys and queries of a model turn with their position."""

    def rotated(self, layer: int, rows: "Tensor", by: "Tensor") -> "Tensor":
        """Rows [..., D] of a layer as they would be `by` [...] positions later; minus their own un-rotates them."""
        ...

    def table(self, layer: int, longest: int) -> "tuple[Tensor, bool]":
        """What turns the rows of a layer, and whether pairs of channels stand beside each other.

        Row m of [longest + 1, R] float32 turns R channels by m positions: R/2 cosines, then R/2 sines; R is 0 where
        nothing turns.
        """
        ...


class ModelRunner(Protocol):
    """A decoder seen by methods: forwards whose attention and cache the method decides."""

    spec: ModelSpec

    @property
    def device(self) -> "Any": ...
    @property
    def dtype(self) -> "Any": ...
    @property
    def ops(self) -> Ops: ...
    @property
    def rotary(self) -> Rotary:
        """Found when it is first asked for; a model that turns its keys otherwise is refused then."""
        ...

    @property
    def start_ids(self) -> Sequence[int]:
        """What the tokenizer puts in front of every text."""
        ...

    def new_store(
        self, slots: int, capacity: int, *, evictions: bool = False, kv_heads: int | None = None,
        kv_dtype: KVDtype | None = None, tail: int = 0,
    ) -> KVStore:  # fmt: skip
        """An empty store; more `kv_heads` repeat keys, `kv_dtype` quantises slots but for `tail` rows of one."""
        ...

    def new_ragged_store(self, segments: Sequence[Segments]) -> RaggedKVStore:
        """An empty store with these segments in each layer."""
        ...

    def free_bytes(self) -> int | None:
        """Memory of the device that can still be had; None where nobody needs to ask."""
        ...

    def forward(
        self,
        ids: "Tensor",
        positions: "Tensor",
        lengths: "Tensor",
        store: "KVStore | RaggedKVStore",
        plan: AttentionPlan,
        stages: Stages = no_stages,
        rows: Rows | None = None,
    ) -> "Tensor":
        """[M, T] ids and positions, [M] valid tokens → last hidden rows [M, T, E], final norm applied.

        With `rows` those of the tokens that the last layer read.
        """
        ...

    def logits(self, hidden: "Tensor") -> "Tensor":
        """[…, E] hidden rows → [..., V] by the model's own head: bias and scale are in it."""
        ...

    def head_factors(self, hidden: "Tensor", weights: "Tensor | None" = None) -> "tuple[Tensor, Tensor]":
        """[X, E] hidden rows → rows [X, E'] and weights [V, E'] whose product is their logits.

        For ops that never make all logits at once; E' is E, or E + 1 where the head has a bias.
        `weights` are those of an earlier call, while the model is the same: they are not made again.
        """
        ...

    def stock_forward(self, ids: "Tensor", cache: Any | None) -> "tuple[Tensor, Any]":
        """The model's own SDPA forward: [1, T] ids → logits of the last row [1, V] and its cache."""
        ...

    def stock_rows(self, ids: "Tensor", cache: Any | None) -> "tuple[Tensor, Any]":
        """The same forward: [1, T] ids → last hidden rows [1, T, E] and the cache; without one nothing is cached."""
        ...

    def with_rope(self, scaling: str, factor: float, trained_tokens: int) -> "ModelRunner":
        """The same model with other rotary frequencies in each of its forwards, as transformers makes them.

        Args:
            scaling: linear, ntk, dynamic or yarn.
            factor: how many times longer.
            trained_tokens: than these.

        Raises:
            ConfigError: the model scales its frequencies already, or makes them in its own way.
        """
        ...

    def pressed(self, make: Callable[[Any], Any]) -> PressedModel:
        """The same model under a press of kvpress, which `make` gives from that module.

        Raises:
            ImportError: kvpress, or what it imports, is not installed.
            ConfigError: this process has imported kvpress by itself.
        """
        ...


class MethodConfig(Protocol):
    """A method's parameters."""

    def resolve(self, spec: ModelSpec, device: DeviceKind, task: str = "") -> "MethodConfig":
        """The same with every "auto", fraction and preset as numbers; what the record shows.

        `task` is the id of the task that will run: a preset may have other values for some. A config that takes part
        in `suite.kv_tokens` has `sized(tokens)` too: the same with so many keys a kv-head where no size is given.

        Raises:
            DataMissing: a file is not here; the cell ends with that status and the others go on.
        """
        ...

    def cost(self, spec: ModelSpec, tokens: int) -> Cost:
        """Of a prompt of `tokens`; for plans, never for records."""
        ...

    def model_dump(self, *, mode: str = "python") -> dict[str, Any]: ...


class Method(Protocol):
    """A way to turn a long prompt into the first answer token and the ones after it.

    A class with `Config` (a `MethodConfig`) and `backends` (what it can compute with: "ops" for any backend of
    `pcbench.ops`, "torch" for other code, which no parity covers), made from a resolved config and a runner. What one
    may offer beside these two: `Reads`, `ContextMethod`.
    """

    def prefill(self, prompt: Prompt, stages: Stages) -> Prefilled: ...
    def step(self, prefilled: Prefilled, token: "Tensor") -> "Tensor":
        """Takes one token [1] int64 into the state; logits of the next [1, V]."""
        ...
