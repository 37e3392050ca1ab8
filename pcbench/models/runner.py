"""Runs an unmodified Hugging Face decoder with a method's attention and cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from pcbench.errors import ConfigError, NotFinite
from pcbench.models.cache import SlotCache
from pcbench.models.finite import first_not_finite
from pcbench.reference import calibrated_attention
from pcbench.types import AttentionPlan, KVStore, ModelSpec, Ops, Stages, Tokenizer, no_stages

__all__ = ["HFRunner"]

# the name under which our attention is registered with transformers
INTERFACE = "pcbench"


@dataclass(frozen=True)
class Call:
    """What one forward hands to its attention layers; it lives for that forward only."""

    plan: AttentionPlan
    store: KVStore
    ops: Ops
    device: torch.device


def planned_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    pcbench_call: Call,
    **_: Any,
) -> tuple[Tensor, None]:
    """The attention interface's function: asks the plan for this layer; [M, H, T, D] in, [M, T, H, D] out."""
    call, here = pcbench_call, query.device
    # the layers of a model may lie on several devices, the store on one
    q, k, v = (x.to(call.device) for x in (query, key, value))
    out = call.plan(module.layer_idx, q, k, v, call.store, call.ops)
    return out.to(here).transpose(1, 2).contiguous(), None


def no_mask(*_: Any, **__: Any) -> None:
    """Which keys a row sees is decided by the plan."""


AttentionInterface.register(INTERFACE, planned_attention)
AttentionMaskInterface.register(INTERFACE, no_mask)


@dataclass(frozen=True)
class HFRunner:
    """A loaded causal language model.

    Args:
        model: a `*ForCausalLM`, in eval mode on its device.
        spec: its numbers.
        tokenizer: its tokenizer.
        ops: the backend its plans compute with; `dataclasses.replace` gives the same model on another.
    """

    model: Any
    spec: ModelSpec
    tokenizer: Tokenizer
    ops: Ops

    @property
    def device(self) -> torch.device:
        return self.lm_head().device

    @property
    def dtype(self) -> torch.dtype:
        return self.lm_head().dtype

    def new_store(
        self, slots: int, capacity: int, *, evictions: bool = False, kv_heads: int | None = None
    ) -> SlotCache:
        like: Any = {"dtype": self.dtype, "device": self.device}
        return SlotCache(self.spec, slots, capacity, evictions=evictions, kv_heads=kv_heads, **like)

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
        store: KVStore,
        plan: AttentionPlan,
        stages: Stages = no_stages,
    ) -> Tensor:
        """[M, T] ids and positions, [M] int32 valid tokens → last hidden rows [M, T, E], final norm applied."""
        store.expect(lengths)
        with stages("embed"):
            embedded = self.model.get_input_embeddings()(ids)
        with self._attention(INTERFACE):
            output = self.model.base_model(
                inputs_embeds=embedded,
                position_ids=positions,
                past_key_values=store,
                use_cache=True,
                pcbench_call=Call(plan, store, self.ops, self.device),
            )
        hidden: Tensor = output.last_hidden_state
        return hidden.to(self.device)

    def lm_head(self) -> Tensor:
        """[V, E]."""
        weight: Tensor = self.model.get_output_embeddings().weight
        return weight

    @torch.inference_mode()
    def stock_forward(self, ids: Tensor, cache: Any | None) -> tuple[Tensor, Any]:
        """The model's own SDPA forward: [1, T] ids → logits of the last row [1, V] and the cache to go on with."""
        with self._attention("sdpa"):
            output = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1], output.past_key_values

    @contextmanager
    def _attention(self, name: str) -> Iterator[None]:
        config = self.model.config
        before = config._attn_implementation
        config._attn_implementation = name
        try:
            yield
        finally:
            config._attn_implementation = before

    def verify(self) -> None:
        """Holds a short forward through the attention interface against the model's own.

        Catches what a config does not tell: soft caps, sinks, biases, scales inside the attention.

        Raises:
            NotFinite: the model's own logits hold NaN or infinity.
            ConfigError: the logits differ; the model needs more than its plan can know.
        """
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(0, self.spec.vocab, (1, 24), generator=generator).to(self.device)
        rows = ids.shape[1]
        store = self.new_store(1, rows)
        store.begin(torch.zeros(1, dtype=torch.int32, device=self.device))
        lengths = torch.full((1,), rows, dtype=torch.int32, device=self.device)
        positions = torch.arange(rows, device=self.device)[None]
        hidden = self.forward(ids, positions, lengths, store, self._plain)
        ours = (hidden[:, -1] @ self.lm_head().T).double()
        stock = self.stock_forward(ids, None)[0].double()
        if not bool(stock.isfinite().all()):
            raise self._not_finite(ids)
        error = float((ours - stock).norm() / stock.norm())
        bound = 1e-4 if self.dtype == torch.float32 else 5e-2
        if not error <= bound:
            raise ConfigError(
                f"--model: {self.spec.name}: the attention interface reproduces its logits within {bound:g}, "
                f"got {error:.2g}; this architecture is not supported"
            )

    def _not_finite(self, ids: Tensor) -> NotFinite:
        part = first_not_finite(self.model, self.spec.layers, lambda: self.stock_forward(ids, None))
        first = f"first in the output of {part}" if part else "after finite outputs of every layer"
        return NotFinite(
            f"--model: {self.spec.name}: finite logits, got NaN or infinity, {first}; look at its weights and its dtype"
        )

    def _plain(self, layer: int, q: Tensor, k: Tensor, v: Tensor, store: KVStore, ops: Ops) -> Tensor:
        return calibrated_attention(q, k, v, scale=self.spec.scale, causal=True)[0]
