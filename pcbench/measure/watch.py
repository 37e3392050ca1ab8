"""Parity on a cell's own tensors: a runner whose ops are held against the float64 reference."""

import inspect
import math
import random
import sys
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from pcbench import reference
from pcbench.measure.kernels.cases import CHANGED, compare, run
from pcbench.measure.parity import Comparison, worst
from pcbench.measure.sampling import sample_heads
from pcbench.types import AttentionPlan, KVStore, Ops, RaggedKVStore, Rows, Stages, no_stages

__all__ = ["Watch", "WatchedRunner"]

# calls of an op in a layer that are always checked; later ones are checked with this chance
FIRST_CALLS, LATER_SHARE = 2, 0.25


@dataclass
class Watch:
    """Ops that compute as `ops` does and check a seeded sample of what they compute.

    Checked are the first, the middle and the last layer and everything outside of layers. For ops with
    heads, a call of more than 64 query rows is checked on one (batch row, kv-head), all of its query rows.

    Args:
        ops: the backend under test.
        layers: of the model.
        seed: of the sample.
        not_finite: the first call whose truth is not finite, unless an op was wrong before: the tensors it was given
            hold NaN or infinity, which says nothing of the op.
    """

    ops: Ops
    layers: int
    seed: int
    layer: int | None = None
    found: dict[str, dict[str, Comparison]] = field(default_factory=dict)
    calls: dict[tuple[str, int | None], int] = field(default_factory=dict)
    not_finite: str | None = field(default=None, init=False)
    broken: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    @property
    def backend(self) -> str:
        return self.ops.backend

    def __getattr__(self, name: str) -> Any:
        if name not in reference.__all__:
            raise AttributeError(name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            return self._call(name, args, kwargs)

        return watched

    def worst(self) -> dict[str, dict[str, float]]:
        """Op → error and bound of the result with the largest error-to-bound ratio, over all checked calls.

        The checked calls are one sample: a result's largest error is held against the bound that the reference's
        largest error in that sample gives. The few rows of a single call would make the bound a matter of luck.
        JSON has no infinity: a result with a wrong shape, NaN or infinity has the largest float for an error.
        """
        found = {op: worst(results) for op, results in self.found.items()}
        return {op: {"err": _finite(c.err), "bound": c.bound} for op, c in found.items()}

    def _call(self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        bound = inspect.signature(getattr(reference, op)).bind(*args, **kwargs).arguments
        if not self._chosen(op):
            return getattr(self.ops, op)(**bound)
        before = {name: bound[name].clone() for name in CHANGED.get(op, ())}
        results = getattr(self.ops, op)(**bound)
        got = run(_Replay(op, results, bound), op, bound | before)
        inputs, got = sample_heads(op, bound | before, got, self.random)
        sample = self.found.setdefault(op, {})
        for result, now in compare(op, inputs, got).items():
            sample[result] = now.joined(sample.get(result, now))
            self._look(op, now)
        return results

    def _look(self, op: str, now: Comparison) -> None:
        """Whether the truth is finite, as long as no op has broken what later ones are given."""
        self.broken |= now.finite and not math.isfinite(now.err)
        if not now.finite and not self.broken and self.not_finite is None:
            self.not_finite = op if self.layer is None else f"{op} of layer {self.layer}"

    def _chosen(self, op: str) -> bool:
        if self.layer not in (None, 0, self.layers // 2, self.layers - 1):
            return False
        count = self.calls[op, self.layer] = self.calls.get((op, self.layer), 0) + 1
        return count <= FIRST_CALLS or self.random.random() < LATER_SHARE


def _finite(err: float) -> float:
    return err if math.isfinite(err) else sys.float_info.max


@dataclass
class _Replay:
    """Stands in for a backend whose call has been made, so that `run` names its results."""

    op: str
    results: Any
    changed: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        def call(**inputs: Any) -> Any:
            for changed in CHANGED.get(self.op, ()):
                inputs[changed].copy_(self.changed[changed])
            return self.results

        return call


@dataclass(frozen=True)
class WatchedRunner:
    """A runner that tells its watch which layer the plan is asked for.

    Args:
        runner: what really runs; its ops are watched.
        seed: of the sample.
    """

    runner: Any
    watch: Watch

    @classmethod
    def of(cls, runner: Any, seed: int) -> "WatchedRunner":
        watch = Watch(runner.ops, runner.spec.layers, seed)
        return cls(replace(runner, ops=watch), watch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.runner, name)

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
        """The runner's forward with the layer known to the watch."""

        def told(layer: int, q: Tensor, k: Tensor, v: Tensor, store: Any, ops: Ops) -> Tensor:
            self.watch.layer = layer
            try:
                return plan(layer, q, k, v, store, ops)
            finally:
                self.watch.layer = None

        hidden: Tensor = self.runner.forward(ids, positions, lengths, store, told, stages, rows)
        return hidden
