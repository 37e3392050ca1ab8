"""Dual chunk attention inside a model: every forward, with a cache or without, in eval and in train mode."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from pcbench.errors import ConfigError
from pcbench.methods.dual_chunk import DualChunk, FreshPlan, all_of
from pcbench.models.attach.cache import RequestCache
from pcbench.models.attach.handle import ROOM, Planned
from pcbench.models.attach.kept import KeptCache
from pcbench.models.attach.rows import BatchRows, Shifted, read_rows
from pcbench.models.interface import planned, recomputed
from pcbench.models.runner import HFRunner
from pcbench.types import AttentionPlan

__all__ = ["DualChunked"]


class DualChunked(Planned):
    """A model whose every forward attends by dual chunks.

    Args:
        method: its name.
        config: its resolved parameters.
        runner: the model.
    """

    def __init__(self, method: str, config: DualChunk.Config, runner: HFRunner) -> None:
        model = runner.model
        rope, longest = model.config.rope_parameters, model.config.max_position_embeddings
        if rope.get("rope_type") == "dynamic" and config.numbers[0] > longest:
            raise ConfigError(
                f"attach: dual_chunk: a period of at most the {longest} positions at which dynamic frequencies begin "
                f"to move, got {config.numbers[0]}; set a smaller one"
            )
        # refused here rather than in a forward
        self.config, self.rotary = config, runner.rotary
        super().__init__(method, runner)

    def _caches(self, given: Any, use: bool | None) -> bool:
        """In train mode where somebody says so."""
        return given is not None or (super()._caches(given, use) and not (self.model.training and use is None))

    def _uncached(self, named: dict[str, Any], tokens: Tensor) -> Any:
        self._check(named)
        rows = read_rows(tokens, named.get("attention_mask"), named.get("position_ids"), None, right=True)
        call = self._call(self._padded(self._plan(rows), rows), None)
        with planned(self.model, call), recomputed(self.model, call):
            return self.original(**named | {"use_cache": False, "position_ids": self._positions(rows)})

    def _recording(self, cache: RequestCache | None) -> AbstractContextManager[Any]:
        """The first forward can be differentiated; of what is cached nobody knows how it came about."""
        return nullcontext() if cache is None else torch.no_grad()

    def _begin(self, rows: BatchRows) -> tuple[RequestCache, AttentionPlan]:
        if self.model.training and any(getattr(x, "gradient_checkpointing", False) for x in self.model.modules()):
            raise ConfigError("attach: no cache while layers are checkpointed, got use_cache; leave it out")
        plan = self._plan(rows)
        segments = all_of(rows.counts, self.runner.spec, ROOM)
        return KeptCache(self, plan.later(), segments, padded=rows.padded), self._padded(plan, rows)

    def _plan(self, rows: BatchRows) -> FreshPlan:
        device = self.runner.device
        # trainers move a model after a method was attached
        if self.rotary.device != device:
            self.rotary = self.rotary.on(device)
        lengths = rows.lengths.to(device) if rows.padded else None
        return DualChunk.plan(self.config, self.runner.spec, self.rotary, lengths)

    def _padded(self, plan: FreshPlan, rows: BatchRows) -> AttentionPlan:
        return Shifted(plan, rows.shifts) if rows.padded else plan

    def _positions(self, rows: BatchRows) -> Tensor:
        return rows.positions % self.config.numbers[0]
