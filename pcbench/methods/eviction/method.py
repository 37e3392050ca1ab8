"""A method of a policy: prefill, then tokens one by one over what stayed."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor

from pcbench.config import Attention, Count, KeyedTable
from pcbench.methods.eviction.plan import PromptPlan, StoredPlan, beyond_kernels
from pcbench.methods.eviction.policy import Policy
from pcbench.reference.packing import following
from pcbench.types import (
    AttentionPlan,
    Cost,
    DeviceKind,
    KVDtype,
    ModelRunner,
    ModelSpec,
    Prefilled,
    Prompt,
    RaggedKVStore,
    Rows,
    Segments,
    Stages,
    beyond_training,
    causal_flops,
    no_stages,
)

__all__ = ["Eviction", "EvictionConfig", "KeysConfig", "Odd", "PolicyConfig"]


def _odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError("input should be odd")
    return number


# width of a pool
Odd = Annotated[Count, AfterValidator(_odd)]

# keys a kv-head keeps where nothing is said
TOKENS = 512


class PolicyConfig(KeyedTable):
    """What every method of a policy can be told.

    Args:
        compress: what the policy is for: prompt: template, context and query, so that the query has its say; context:
            what stands before the query, which is then read over what stayed.
        attention: what computes the attention of the prompt; the reference has its own.
        kv_dtype: int8, int4 or fp8 of what stays of the prompt, whole blocks of 64 keys; the rest of it and what
            follows are in the model's dtype, as everything is without it.

    A subclass may have a key `preset` and say by `presets` what its values stand for; keys that are given win.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    compress: Literal["prompt", "context"] = "prompt"
    attention: Attention = "auto"
    kv_dtype: KVDtype | None = None

    later: ClassVar[frozenset[str]] = frozenset({"attention", "kv_dtype"})

    @model_validator(mode="after")
    def _quantised_keys_stay(self) -> Self:
        if self.kv_dtype is not None and getattr(self, "decode", "grow") == "evict":
            raise ValueError("kv_dtype should stand with decode = grow, where new tokens displace no keys")
        return self

    def resolve(self, spec: ModelSpec, device: DeviceKind, task: str = "") -> Self:
        """The values of a preset."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return self.model_copy(update={**self.presets.get(given.get("preset"), {}), **given})

    def tokens_of(self, length: int) -> int:
        """Keys of a prompt of `length` tokens that a kv-head keeps in the mean; there may be fewer in the prompt."""
        return length

    def policy(self, spec: ModelSpec, tokens: int) -> Policy:
        """The method's choices where a kv-head keeps `tokens` in the mean; every request has its own."""
        raise NotImplementedError

    def cost(self, spec: ModelSpec, tokens: int) -> Cost:
        """A full causal forward; what stays of it."""
        wanted = self.tokens_of(tokens)
        budgets = self.policy(spec, wanted).budgets
        kept = [min(x, tokens) for layer in range(spec.layers) for x in budgets(layer, spec, wanted, tokens)]
        return Cost(flops=causal_flops(spec, tokens), kv_tokens=round(sum(kept) / len(kept)))


class EvictionConfig(PolicyConfig):
    """What every eviction method can be told.

    Args:
        tokens: keys of the prompt that a kv-head keeps, mean over layers and kv-heads; protected ones are among them.
        share: the same as a share of the prompt's tokens. One of the two; 512 tokens where neither is given.
        sink: first tokens that stay.
    """

    tokens: Count | None = None
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    sink: Annotated[int, Field(ge=0)] = 4

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.tokens is not None and self.share is not None:
            raise ValueError("tokens and share cannot both be given")
        return self

    def resolve(self, spec: ModelSpec, device: DeviceKind, task: str = "") -> Self:
        """The size where none is given, and the values of a preset."""
        config = super().resolve(spec, device, task)
        return config if config.tokens or config.share else config.model_copy(update={"tokens": TOKENS})

    def sized(self, tokens: int) -> Self:
        """The same with so many keys a kv-head, where no size is given."""
        return self if self.tokens or self.share else self.model_copy(update={"tokens": tokens})

    def tokens_of(self, length: int) -> int:
        """The mean that is wanted of a prompt of `length` tokens, which may be longer than the prompt."""
        return self.tokens or max(1, round((self.share or 1.0) * length))


class KeysConfig(EvictionConfig):
    """Parameters of methods that look at keys only.

    Args:
        recent: last tokens that stay.
    """

    recent: Annotated[int, Field(ge=0)] = 32


@dataclass
class State:
    """What decoding goes on from."""

    store: RaggedKVStore
    plan: StoredPlan
    position: Tensor  # [1] int64, of the next token
    logits: Tensor = field(init=False)  # [1, V]


@dataclass
class Compressed:
    """What stays of a prompt, or of what stands before its question.

    Args:
        state: what reading goes on from.
        segments: of each layer, with room for a question.
        held: [L, B, Hkv] int32, tokens that stayed.
        question: tokens of the question that there is room for.
        warnings: of what does not run on kernels.
    """

    state: State
    segments: list[Segments]
    held: Tensor
    question: int
    warnings: list[str]

    def copy(self, question: int) -> Self:
        """The same once more for a question of so many tokens; both go on by themselves."""
        plan = self.state.plan
        # what belongs to the model is none of a request's
        shared: dict[int, Any] = {id(x): x for x in (plan.spec, plan.rotary)}
        state = copy.deepcopy(self.state, shared)
        state.store.allow(question - self.question)
        return replace(self, state=state)


class Eviction:
    """Exact attention over the prompt, after which each layer keeps a part of it: base class of eviction methods."""

    Config: ClassVar[Any]
    backends = ("ops",)
    # tokens of a prompt leave between its layers, which takes a runner's forward
    prunes: ClassVar[bool] = False

    def __init__(self, config: PolicyConfig, runner: ModelRunner) -> None:
        self.config, self.runner = config, runner

    def prefill(self, prompt: Prompt, stages: Stages) -> Prefilled:
        """Logits of the first answer token, and what stays of the prompt."""
        whole = self.config.compress == "prompt"
        head = [prompt.prefix, prompt.context, *([prompt.query] if whole else [])]
        ids, later = torch.cat(head), prompt.query[: 0 if whole else None]
        if not ids.numel():
            ids, later = later, later[:0]
        return self._prefilled(self._compressed(ids, later, prompt, stages), later, prompt, stages)

    def read_context(self, prompt: Prompt, stages: Stages) -> "Compressed | None":
        """What stays of prefix and context; None where they are compressed together with the question."""
        ids = torch.cat([prompt.prefix, prompt.context])
        if self.config.compress == "prompt" or not ids.numel():
            return None
        return self._compressed(ids, prompt.query, prompt, stages)

    def ask(self, read: "Compressed", prompt: Prompt, stages: Stages) -> Prefilled:
        """The same as `prefill` from a copy of what stayed."""
        return self._prefilled(read.copy(prompt.query.numel()), prompt.query, prompt, stages)

    def _compressed(self, ids: Tensor, later: Tensor, prompt: Prompt, stages: Stages) -> "Compressed":
        """Reads ids [T], of which a part stays, with room for the question `later` and the answer."""
        spec, runner = self.runner.spec, self.runner
        length = ids.numel()
        tokens = self.config.tokens_of(length)
        policy = self.config.policy(spec, tokens)
        lengths = [length] * spec.layers if policy.pruning is None else policy.pruning.plan(length)
        wanted = [torch.tensor([policy.budgets(i, spec, tokens, n)]) for i, n in enumerate(lengths)]
        segments = [
            policy.segments(i, x, torch.tensor([n]), later.numel(), prompt.new_tokens, self.config.kv_dtype)
            for i, (x, n) in enumerate(zip(wanted, lengths, strict=True))
        ]
        store = runner.new_ragged_store(segments)
        rotary = runner.rotary if policy.rotary else None
        plan = PromptPlan(policy, spec, segments, stages, seed=prompt.seed, rotary=rotary)
        state = State(store, StoredPlan(policy, spec, rotary), ids.new_zeros(1))
        with stages("forward"):
            self._read(ids, state, plan, stages, policy.pruning)
        warnings = beyond_kernels(policy, segments, lengths, runner.ops)
        return Compressed(
            state, segments, torch.stack([store.held(i) for i in range(spec.layers)]), later.numel(), warnings
        )

    def _prefilled(self, read: "Compressed", later: Tensor, prompt: Prompt, stages: Stages) -> Prefilled:
        """Reads what of the question is still to come, ids [n], over what stayed."""
        spec, state, segments, held = self.runner.spec, read.state, read.segments, read.held
        if later.numel():
            with stages("query"):
                self._read(later, state, state.plan, stages)
        vector = (spec.head_dim, self.runner.dtype.itemsize)
        return Prefilled(
            logits=state.logits,
            state=state,
            kept_tokens=lambda: float(held.double().mean()),
            kv_bytes=state.store.nbytes(),
            kv_bytes_predicted=sum(x.nbytes(*vector) for x in segments),
            kv_bytes_prompt=sum(x.with_room(later.numel()).vector_bytes(*vector) for x in segments),
            warnings=[*beyond_training(prompt, spec), *read.warnings],
        )

    def step(self, prefilled: Prefilled, token: Tensor) -> Tensor:
        """Logits after one more token."""
        state: State = prefilled.state
        self._read(token, state, state.plan)
        return state.logits

    def read(self, prefilled: Prefilled, tokens: Tensor) -> Tensor:
        """Last hidden rows [T, E] of given tokens, read over what stayed; read at once, they displace none."""
        state: State = prefilled.state
        return self._read(tokens, state, state.plan)

    def _read(
        self, ids: Tensor, state: State, plan: AttentionPlan, stages: Stages = no_stages, rows: Rows | None = None
    ) -> Tensor:
        """Reads tokens [T] at the next positions; last hidden rows, with `rows` of those that the last layer read."""
        hidden = self.runner.forward(*following(ids, state.position), state.store, plan, stages, rows)
        state.position += ids.numel()
        state.logits = self.runner.logits(hidden[:, -1])
        return hidden[0]
