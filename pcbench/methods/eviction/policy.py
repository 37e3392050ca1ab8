"""What an eviction method is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pcbench.errors import ConfigError
from pcbench.methods.eviction.pruning import Pruning
from pcbench.reference.packing import of_heads
from pcbench.types import KVDtype, ModelSpec, Ops, RaggedKVStore, Rotary, Segments

__all__ = [
    "Budgets",
    "Copies",
    "Decoding",
    "Heads",
    "Placing",
    "Policy",
    "Prompted",
    "Scores",
    "Sharing",
    "last_tokens",
]


@dataclass(frozen=True, eq=False)
class Prompted:
    """A layer of a prompt after its attention.

    Letters: B batch rows, H query heads, Hkv kv-heads, S tokens, D head dim. Tokens stand at the front of their row.

    Args:
        layer: which.
        spec: the model.
        ops: the backend.
        q: [B, H, S, D] after rotary embedding; k, v: [B, Hkv, S, D].
        lse: [B, H, S] float32, log-sum-exp of every query.
        mass: [B, H, S] float32, attention that each key received from the last `Scores.rows` queries.
        lengths: [B] int32, tokens of each row; None means S.
        seed: what random choices come from.
        rotary: how q and k turn with their position; None unless the policy asked for it.
    """

    layer: int
    spec: ModelSpec
    ops: Ops
    q: Tensor
    k: Tensor
    v: Tensor
    lse: Tensor
    mass: Tensor
    lengths: Tensor | None = None
    seed: int = 0
    rotary: Rotary | None = None

    @property
    def kv_lengths(self) -> Tensor | None:
        """[B, Hkv] int32, as the ops take them."""
        return None if self.lengths is None else of_heads(self.lengths, self.k.shape[1])


def last_tokens(prompted: Prompted, count: int) -> Tensor:
    """[B or 1, 1, S] bool: the last `count` tokens of each row, and what stands behind them."""
    tokens = prompted.k.shape[2]
    j = torch.arange(tokens, device=prompted.k.device)
    lengths = j.new_full((1,), tokens) if prompted.lengths is None else prompted.lengths
    return (j >= lengths[:, None] - count)[:, None]


class Scores(Protocol):
    """Who says what a token of the prompt is worth."""

    def rows(self, tokens: int) -> int:
        """Last queries of a prompt of `tokens` whose attention it wants to know; 0 for none."""
        ...

    def __call__(self, prompted: Prompted) -> Tensor:
        """[B, H, S] float32, whose sum over the heads of a group counts, or [B, Hkv, S]; NaN is worth nothing."""
        ...


class Budgets(Protocol):
    """How many tokens each kv-head of a layer keeps."""

    def __call__(self, layer: int, spec: ModelSpec, tokens: int, length: int) -> Sequence[int]:
        """Keys of each kv-head, [Hkv]; a prompt with fewer keeps them all.

        Args:
            layer: which.
            spec: the model.
            tokens: the mean that is wanted over the whole model.
            length: of the prompt.
        """
        ...


class Decoding(Protocol):
    """What the tokens after the prompt displace."""

    @property
    def kept_masses(self) -> int:
        """Numbers a key, of the attention that it receives, which the store holds; 0 asks for no attention."""
        ...

    @property
    def apart(self) -> int:
        """Newest tokens whose attention it wants to know one by one; 0 for the sum over all."""
        ...

    def begin(self, prompted: Prompted, store: RaggedKVStore) -> None:
        """The prompt's layer has been stored."""
        ...

    def after(self, layer: int, masses: Sequence[Tensor], count: int, store: RaggedKVStore) -> None:
        """Names by `store.name_victims` what the next token overwrites.

        Args:
            layer: which.
            masses: [B, Hkv, L] float32 each, attention that each stored key received: from each of the last new tokens,
                oldest first, where `apart` asks for them, else from all together; empty without `kept_masses`.
            count: new tokens.
            store: theirs.
        """
        ...


class Placing(Protocol):
    """At which positions stored keys stand."""

    def __call__(self, layer: int, store: RaggedKVStore, rotary: Rotary) -> None:
        """Moves stored keys: after the prompt was stored, and after every new token before its attention."""
        ...


class Sharing(Protocol):
    """Who moves a layer's budgets between its heads, when their scores are known; every row's sum stays."""

    def __call__(self, scores: Tensor, budgets: Tensor) -> Tensor:
        """[B, Hkv] int32 on the device of the scores.

        Args:
            scores: [B, Hkv, S] float32; what stays in any case is +inf, what is none of the row's tokens −inf.
            budgets: [B, Hkv] int32 on the CPU.
        """
        ...


class Heads(Protocol):
    """Which kv-heads of a layer take the queries and keys of another, and so its attention weights."""

    @property
    def counts(self) -> Sequence[int]:
        """Of each layer, kv-heads whose keys are stored."""
        ...

    def __call__(self, layer: int, spec: ModelSpec, q: Tensor, k: Tensor, lengths: Tensor | None) -> Tensor:
        """[B, Hkv] int64: whose each kv-head takes, `counts[layer]` different ones in each row.

        The i-th query head of a group takes those of the i-th of the other group. One that others take takes its own.

        Args:
            layer: which.
            spec: the model.
            q, k: [B, H, S, D] and [B, Hkv, S, D] of the prompt, tokens at the front of their row.
            lengths: [B] int32, tokens of each row; None means S.
        """
        ...


class Copies(Protocol):
    """Whose attention the query heads take whose kv-head keeps nothing of the prompt."""

    def begin(self, prompted: Prompted) -> None:
        """The prompt's layer has been read by all heads."""
        ...

    def __call__(self, layer: int, out: Tensor) -> Tensor:
        """Outputs of new tokens [B, H, T, D] with copies in place of those of such heads."""
        ...


@dataclass(frozen=True)
class Policy:
    """An eviction method.

    Args:
        scores: what tokens are worth.
        budgets: how many each kv-head keeps.
        pool: odd width of the max-pool over the scores of neighbours.
        sink: first tokens that stay.
        recent: last tokens that stay, and whose scores stay out of the pool.
        sharing: moves budgets between the heads of a layer; None leaves them.
        decoding: what displaces what later; None lets the cache grow.
        pruning: leaves tokens of the prompt out between layers; None reads all in each.
        copies: whose outputs heads without tokens take; None leaves them their own.
        placing: moves keys to other positions; None leaves them.
        rotary: scores or placing rotate keys or queries.
        heads: whose queries and keys kv-heads take, which then evict nothing; None leaves them their own.
    """

    scores: Scores
    budgets: Budgets
    pool: int = 1
    sink: int = 0
    recent: int = 0
    sharing: Sharing | None = None
    decoding: Decoding | None = None
    pruning: Pruning | None = None
    copies: Copies | None = None
    placing: Placing | None = None
    rotary: bool = False
    heads: Heads | None = None

    def segments(
        self,
        layer: int,
        wanted: Tensor,
        lengths: Tensor,
        later: int,
        new_tokens: int,
        kv_dtype: KVDtype | None = None,
    ) -> Segments:
        """What a layer stores.

        Args:
            layer: which.
            wanted: [B, Hkv] int64 on the CPU, budgets.
            lengths: [B] int64 on the CPU, tokens of each prompt.
            later: tokens of a question behind it; a segment holds as many beside its budget.
            new_tokens: room for what follows.
            kv_dtype: of what stays of the prompt; None is the model's.

        Raises:
            ConfigError: heads share keys of which some would be evicted, or budgets where new tokens displace others;
                quantised keys would be displaced, moved or shared.
        """
        kept = torch.minimum(wanted, lengths[:, None])
        changes = self.decoding is not None or self.placing is not None or bool((wanted < lengths[:, None]).any())
        if self.heads is not None and changes:
            raise ConfigError(
                "policy: heads that share keys and every token where it was read, got budgets, decoding or placing; "
                "leave one out"
            )
        if self.sharing is not None and self.decoding is not None:
            raise ConfigError(
                "policy: budgets that are known before the prompt is read where new tokens displace others, got "
                "sharing and decoding; leave one out"
            )
        if kv_dtype is not None and (self.decoding, self.placing, self.heads) != (None, None, None):
            raise ConfigError(
                f"policy: kv_dtype where stored keys stay as they are and belong to one kv-head, got {kv_dtype} with "
                "keys that new tokens displace, that move, or that heads share; leave kv_dtype out"
            )
        room, limit = torch.full_like(kept, later + new_tokens), None
        if self.decoding is not None:
            limit = wanted + later + 1
            room = torch.minimum(room, limit - kept)
        aside = self.sink if self.placing is not None else 0
        key_heads = None if self.heads is None else self.heads.counts[layer]
        shared = self.sharing is not None
        masses = 0 if self.decoding is None else self.decoding.kept_masses
        return Segments(
            kept, room, limit, shared=shared, wanted=wanted, aside=aside, key_heads=key_heads, masses=masses,
            kv_dtype=kv_dtype,
        )  # fmt: skip
