"""Runs an unmodified Hugging Face decoder with a method's attention and cache."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from pcbench.models.interface import CACHE, Call, attention, planned
from pcbench.models.kvpress import HFPressedModel
from pcbench.models.layers.pruning import pruned
from pcbench.models.rotary import ModelRotary, Swapped, measure_rotary, scaled, swapped
from pcbench.models.stores.quantized import QuantizedSlotCache
from pcbench.models.stores.ragged import RaggedStore
from pcbench.models.stores.roomy import give_room
from pcbench.models.stores.slots import SlotCache
from pcbench.models.verify import verify
from pcbench.types import (
    AttentionPlan,
    KVDtype,
    KVStore,
    ModelSpec,
    Ops,
    RaggedKVStore,
    Rows,
    Segments,
    Stages,
    Tokenizer,
    no_stages,
)

__all__ = ["HFRunner"]


@dataclass(frozen=True)
class HFRunner:
    """A loaded causal language model.

    Args:
        model: a `*ForCausalLM`, in eval mode on its device.
        spec: its numbers.
        tokenizer: its tokenizer.
        ops: the backend its plans compute with; `dataclasses.replace` gives the same model on another.
        rope: rotary modules, and functions that rotate, that its forwards run with in place of the model's.
        sdpa: the kernel of torch's SDPA that stock forwards of a whole prompt run by; None leaves it to torch.
        quantization: what a record says of its quantised weights; None where they are as they were.
    """

    model: Any
    spec: ModelSpec
    tokenizer: Tokenizer
    ops: Ops
    rope: Sequence[Swapped] = ()
    sdpa: SDPBackend | None = None
    quantization: dict[str, Any] | None = None

    @property
    def device(self) -> torch.device:
        return self.lm_head().device

    @property
    def start_ids(self) -> Sequence[int]:
        return self.tokenizer.start_ids

    @property
    def dtype(self) -> torch.dtype:
        return self.lm_head().dtype

    @cached_property
    def rotary(self) -> ModelRotary:
        """How keys and queries turn with their position.

        Raises:
            ConfigError: by no frequencies that the model names.
        """
        return measure_rotary(self)

    def new_store(
        self,
        slots: int,
        capacity: int,
        *,
        evictions: bool = False,
        kv_heads: int | None = None,
        kv_dtype: KVDtype | None = None,
        tail: int = 0,
    ) -> SlotCache:
        like: Any = {"evictions": evictions, "kv_heads": kv_heads, "dtype": self.dtype, "device": self.device}
        if kv_dtype is None:
            return SlotCache(self.spec, slots, capacity, **like)
        return QuantizedSlotCache(self.spec, slots, capacity, kv_dtype=kv_dtype, tail=tail, **like)

    def new_ragged_store(self, segments: Sequence[Segments]) -> RaggedStore:
        return RaggedStore(self.spec, segments, dtype=self.dtype, device=self.device)

    def free_bytes(self) -> int | None:
        """Memory of the GPU that the driver or torch's allocator has free; None on a CPU."""
        if self.device.type != "cuda":
            return None
        free, _ = torch.cuda.mem_get_info(self.device)
        return free + torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)

    @torch.inference_mode()
    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        lengths: Tensor,
        store: KVStore | RaggedKVStore,
        plan: AttentionPlan,
        stages: Stages = no_stages,
        rows: Rows | None = None,
    ) -> Tensor:
        """[M, T] ids and positions, [M] int32 valid tokens → last hidden rows [M, T, E], final norm applied.

        Args:
            rows: which of its tokens each layer reads; None reads all.

        Raises:
            ConfigError: `rows` is there and no token can be left out between the model's layers.
        """
        store.expect(lengths)
        with stages("embed"):
            embedded = self.model.get_input_embeddings()(ids)
        call = Call(plan, store, self.ops, self.device, self.dtype)
        leaving = nullcontext() if rows is None else pruned(self.model, self.spec, rows)
        with planned(self.model, call), swapped(self.rope), leaving:
            output = self.model.base_model(
                inputs_embeds=embedded, position_ids=positions, use_cache=True, **{CACHE: store}
            )
        hidden: Tensor = output.last_hidden_state
        return hidden.to(self.device)

    def lm_head(self) -> Tensor:
        """[V, E]."""
        weight: Tensor = self.model.get_output_embeddings().weight
        return weight

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """[…, E] hidden rows → [..., V] by the model's own head."""
        out: Tensor = self.model.get_output_embeddings()(hidden)
        return out if self.spec.logit_scale == 1 else out * self.spec.logit_scale

    @torch.inference_mode()
    def head_factors(self, hidden: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """[X, E] hidden rows → rows [X, E'] and weights [V, E'] whose product is their logits.

        `weights` are those of an earlier call, while the model is the same, so that a bias is put beside them once.
        """
        head, scale = self.model.get_output_embeddings(), self.spec.logit_scale
        if getattr(head, "bias", None) is None:
            return hidden if scale == 1 else hidden * scale, head.weight
        if weights is None:
            weights = torch.cat([head.weight, head.bias[:, None]], 1)
        ones = hidden.new_ones(*hidden.shape[:-1], 1)
        return torch.cat([hidden, ones], -1) * scale, weights

    @torch.inference_mode()
    def stock_forward(self, ids: Tensor, cache: Any | None) -> tuple[Tensor, Any]:
        """The model's own SDPA forward: [1, T] ids → logits of the last row [1, V] and the cache to go on with."""
        if cache is not None:
            give_room(cache)
        # a kernel that takes a prompt need not take one row over a cache
        kernel = nullcontext() if self.sdpa is None or cache is not None else sdpa_kernel(self.sdpa)
        with attention(self.model, "sdpa"), swapped(self.rope), kernel:
            output = self.model(input_ids=ids, use_cache=True, logits_to_keep=1, **{CACHE: cache})
        return output.logits[:, -1], output[CACHE]

    @torch.inference_mode()
    def stock_rows(self, ids: Tensor, cache: Any | None) -> tuple[Tensor, Any]:
        """The same forward: [1, T] ids → last hidden rows [1, T, E] and the cache; without one nothing is cached."""
        if cache is not None:
            give_room(cache)
        with attention(self.model, "sdpa"), swapped(self.rope):
            output = self.model.base_model(input_ids=ids, use_cache=cache is not None, **{CACHE: cache})
        hidden: Tensor = output.last_hidden_state
        return hidden.to(self.device), getattr(output, CACHE)

    def with_rope(self, scaling: str, factor: float, trained_tokens: int) -> Self:
        """The same model with other rotary frequencies in each of its forwards; see `pcbench.models.rotary.scaled`.

        Raises:
            ConfigError: the model scales its frequencies already, or makes them in its own way.
        """
        modules = scaled(self.model, self.spec.name, scaling, factor, trained_tokens)
        return replace(self, rope=(*self.rope, *modules))

    def pressed(self, make: Callable[[Any], Any]) -> HFPressedModel:
        """The same model under a press of kvpress, which `make` gives from that module; errors as of HFPressedModel."""
        return HFPressedModel(self, make)

    def verify(self) -> None:
        """Holds the model by chunks and stored keys, and its baseline, against its own eager forward.

        Raises:
            NotFinite: the model's own logits hold NaN or infinity.
            ConfigError: the model needs more than a plan can know; names what.
        """
        verify(self)
