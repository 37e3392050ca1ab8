"""XAttention: each block of queries reads the blocks of keys whose antidiagonals promise the most attention."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator

from pcbench.config import Count, Table
from pcbench.methods.sparse_prefill.plan import SparsePlan
from pcbench.methods.whole_cache import Part, StoredPlan, WholeCache
from pcbench.types import Cost, DeviceKind, ModelSpec, Prefilled, Prompt, Stages, beyond_training, causal_flops

__all__ = ["XAttention"]


class Config(Table):
    """Parameters of XAttention.

    Args:
        stride: rows and keys whose antidiagonal is summed; it divides block_tokens.
        threshold: share of the estimated attention that the chosen blocks of a row of blocks must have; 1 takes all.
        block_tokens: rows, and keys, of a block.
        preset: the paper's settings with one threshold for all heads: paper: stride 16 and 0.9, of Qwen2-VL;
            paper-8: stride 8 and 0.9, of HunyuanVideo. The thresholds of each head that the paper found for Llama 3.1
            by a search are not here.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"stride": 16, "threshold": 0.9}, "paper-8": {"stride": 8, "threshold": 0.9},
    }  # fmt: skip

    stride: Count = 16
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.9
    block_tokens: Count = 128
    preset: Literal["paper", "paper-8"] | None = None

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        if self.block_tokens % self._chosen().get("stride", self.stride):
            raise ValueError("block_tokens should be a multiple of stride")
        return self

    def resolve(self, spec: ModelSpec, device: DeviceKind, task: str = "") -> Self:
        """The values of a preset."""
        return self.model_copy(update=self._chosen())

    def _chosen(self) -> dict[str, Any]:
        """A preset's values and, before them, those that are given."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return {**self.presets.get(self.preset or "", {}), **given}

    def cost(self, spec: ModelSpec, tokens: int) -> Cost:
        """Of the estimate, and of all blocks: how many will be chosen is not known before."""
        estimate = spec.layers * spec.heads * spec.head_dim * tokens**2 / self.stride
        return Cost(flops=causal_flops(spec, tokens) + estimate, kv_tokens=tokens)


class XAttention(WholeCache):
    """Block-sparse prefill chosen by sums over antidiagonals: XAttention, arXiv:2503.16428 (ICML 2025).

    Only the prompt, question included, is read sparsely; its keys and values are all stored, and the answer sees every
    one of them. The first block and a query's own are always read.
    """

    Config = Config

    def prefill(self, prompt: Prompt, stages: Stages) -> Prefilled:
        """Logits of the first answer token, and keys and values of the whole prompt."""
        config, spec = self.config, self.runner.spec
        ids = torch.cat([prompt.prefix, prompt.context, prompt.query])
        plan = SparsePlan(spec, config.stride, config.threshold, config.block_tokens, stages)
        part = Part(ids, torch.arange(ids.numel(), device=ids.device), plan)
        with stages("forward"):
            state = self._begin([part], StoredPlan(spec), ids.numel(), prompt.new_tokens, stages)
        return self._prefilled(state, prompt, beyond_training(prompt, spec))
