"""Exact attention over the whole prompt by the model's own code and torch's SDPA: the baseline."""

from typing import Any, Self

import torch
from torch import Tensor

from pcbench.config import Table
from pcbench.types import (
    Cost,
    DeviceKind,
    ModelRunner,
    ModelSpec,
    Prefilled,
    Prompt,
    Stages,
    beyond_training,
    causal_flops,
)

__all__ = ["Full"]


class Full:
    """Full KV: one causal forward with `logits_to_keep=1`, then greedy decoding on the model's own cache."""

    class Config(Table):
        """Nothing to set."""

        def resolve(self, spec: ModelSpec, device: DeviceKind, task: str = "") -> Self:
            return self

        def cost(self, spec: ModelSpec, tokens: int) -> Cost:
            return Cost(flops=causal_flops(spec, tokens), kv_tokens=tokens)

    backends = ("torch",)

    def __init__(self, config: Config, runner: ModelRunner) -> None:
        self.runner = runner

    def prefill(self, prompt: Prompt, stages: Stages) -> Prefilled:
        """Logits of the first answer token and the filled cache."""
        spec = self.runner.spec
        ids = torch.cat([prompt.prefix, prompt.context, prompt.query])[None]
        with stages("forward"):
            logits, cache = self.runner.stock_forward(ids, None)
        return Prefilled(
            logits=logits,
            state=cache,
            kept_tokens=lambda: prompt.prefix.numel() + prompt.context.numel(),
            kv_bytes=_cache_bytes(cache),
            kv_bytes_prompt=_cache_bytes(cache),
            kv_bytes_predicted=spec.kv_bytes(ids.shape[1], self.runner.dtype.itemsize),
            warnings=beyond_training(prompt, spec),
        )

    def step(self, prefilled: Prefilled, token: Tensor) -> Tensor:
        """Logits after one more token."""
        logits, prefilled.state = self.runner.stock_forward(token[None], prefilled.state)
        return logits


def _cache_bytes(cache: Any) -> int:
    held = [t for layer in cache.layers for t in (layer.keys, layer.values)]
    return sum(t.numel() * t.element_size() for t in held)
