"""An eviction method inside a model: what stays of a prompt is what later tokens are read over."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from pcbench.errors import ConfigError
from pcbench.methods.eviction import EvictionConfig, PolicyConfig
from pcbench.methods.eviction.plan import PromptPlan, StoredPlan, beyond_kernels
from pcbench.models.attach.cache import RequestCache
from pcbench.models.attach.given import check_eval
from pcbench.models.attach.handle import ROOM, Planned
from pcbench.models.attach.rows import BatchRows, Shifted
from pcbench.models.runner import HFRunner
from pcbench.types import AttentionPlan, no_stages

__all__ = ["Evicting"]


class Evicting(Planned):
    """A model with an eviction method inside, wherever it caches.

    Args:
        method: its name.
        config: its resolved parameters.
        runner: the model.
    """

    def __init__(self, method: str, config: PolicyConfig, runner: HFRunner) -> None:
        if config.kv_dtype is not None:
            raise ConfigError(
                f"attach: a cache in the model's dtype, got kv_dtype = {config.kv_dtype}; leave it out, "
                "or ask by `pcbench.answer`"
            )
        self.config = config
        super().__init__(method, runner)

    def _check(self, named: Mapping[str, Any]) -> None:
        check_eval(self.model)
        super()._check(named)

    def _begin(self, rows: BatchRows) -> tuple[RequestCache, AttentionPlan]:
        """What a prompt is read by, and what stays of it goes to."""
        spec, counts = self.runner.spec, rows.counts
        share = isinstance(self.config, EvictionConfig) and self.config.share
        if share and min(counts) < max(counts):
            raise ConfigError(
                f"attach: share: prompts of one length, got {min(counts)} to {max(counts)} tokens; give tokens instead"
            )
        tokens, lengths = self.config.tokens_of(max(counts)), torch.tensor(counts)
        policy, segments = self.config.policy(spec, tokens), []
        for layer in range(spec.layers):
            wanted = torch.tensor([policy.budgets(layer, spec, tokens, count) for count in counts])
            segments.append(policy.segments(layer, wanted, lengths, 0, ROOM))
        rotary = self.runner.rotary if policy.rotary else None
        cache = RequestCache(self, StoredPlan(policy, spec, rotary), segments, padded=rows.padded)
        cache.warnings = beyond_kernels(policy, segments, [max(counts)] * spec.layers, self.runner.ops)
        plan = PromptPlan(policy, spec, segments, no_stages, rotary=rotary)
        if not rows.padded:
            return cache, plan
        return cache, Shifted(replace(plan, lengths=rows.lengths.to(self.runner.device)), rows.shifts)
