"""Full attention: exact, over the whole prompt, by the model's own code and torch's SDPA; the baseline."""

import copy
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
        ids = torch.cat([prompt.prefix, prompt.context, prompt.query])[None]
        with stages("forward"):
            logits, cache = self.runner.stock_forward(ids, None)
        return self._prefilled(prompt, logits, cache)

    def read_context(self, prompt: Prompt, stages: Stages) -> Any:
        """The cache of prefix and context."""
        ids = torch.cat([prompt.prefix, prompt.context])[None]
        with stages("forward"):
            return self.runner.stock_forward(ids, None)[1]

    def ask(self, read: Any, prompt: Prompt, stages: Stages) -> Prefilled:
        """The same as `prefill` from a copy of that cache."""
        with stages("query"):
            logits, cache = self.runner.stock_forward(prompt.query[None], copy.deepcopy(read))
        return self._prefilled(prompt, logits, cache)

    def _prefilled(self, prompt: Prompt, logits: Tensor, cache: Any) -> Prefilled:
        spec = self.runner.spec
        tokens = sum(ids.numel() for ids in (prompt.prefix, prompt.context, prompt.query))
        return Prefilled(
            logits=logits,
            state=cache,
            kept_tokens=lambda: prompt.prefix.numel() + prompt.context.numel(),
            kv_bytes=_cache_bytes(cache),
            kv_bytes_prompt=_cache_bytes(cache),
            kv_bytes_predicted=spec.kv_bytes(tokens, self.runner.dtype.itemsize),
            warnings=beyond_training(prompt, spec),
        )

    def step(self, prefilled: Prefilled, token: Tensor) -> Tensor:
        """Logits after one more token."""
        logits, prefilled.state = self.runner.stock_forward(token[None], prefilled.state)
        return logits

    def read(self, prefilled: Prefilled, tokens: Tensor) -> Tensor:
        """Last hidden rows [T, E] of given tokens."""
        rows, prefilled.state = self.runner.stock_rows(tokens[None], prefilled.state)
        return rows[0]

    def rows(self, prompt: Prompt) -> Tensor:
        """Last hidden rows of every token of a prompt."""
        ids = torch.cat([prompt.prefix, prompt.context, prompt.query])[None]
        return self.runner.stock_rows(ids, None)[0][0]


def _cache_bytes(cache: Any) -> int:
    held = [t for layer in cache.layers for t in (layer.keys, layer.values)]
    return sum(t.numel() * t.element_size() for t in held)
