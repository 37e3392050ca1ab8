"""The cells that share model, text and length: what each loses on the same windows."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch

from pcbench.errors import ConfigError
from pcbench.harness.kinds.accuracy.group import AccuracyGroup
from pcbench.harness.kinds.methods.cells import Prepared
from pcbench.harness.kinds.methods.finite import not_finite
from pcbench.harness.kinds.methods.lane import Lane
from pcbench.harness.kinds.perplexity.loss import Losses, in_buckets, losses_of
from pcbench.ops.portable import portable_calls
from pcbench.tasks import Example
from pcbench.tasks.texts import Ids
from pcbench.tasks.windows import Cut, Window
from pcbench.types import Sample

__all__ = ["PerplexityGroup"]

UNCHECKED = "no op was held against the reference"


class PerplexityGroup(AccuracyGroup):
    """The cells of a length; this rank's part of their windows, each with a sample on the disk before the next.

    Arguments as of `AccuracyGroup`.
    """

    @property
    def cut(self) -> Cut:
        """The same for all cells of a length."""
        found: Cut = self.lanes[0].prepared.task
        return found

    @cached_property
    def ids(self) -> Ids:
        return self.cut.text.ids(self.runner.tokenizer)

    @cached_property
    def begins(self) -> list[int]:
        return self.cut.begins(len(self.ids), len(self.runner.start_ids))

    def _example(self, prepared: Prepared, index: int) -> Example | None:
        if index >= len(self.begins):
            return None
        return self.cut.window(self.ids, self.begins, index, self.runner.start_ids)

    def _open(self, lane: Lane) -> None:
        """Makes the method, where it reads what it is given."""
        if not hasattr(lane.prepared.method, "read"):
            raise ConfigError(
                f"{lane.prepared.cell.method}: a method that reads given tokens behind its prefill, got one without "
                "`read`; leave it out"
            )
        super()._open(lane)

    @torch.inference_mode()
    def _first_pass(self, lane: Lane, example: Example) -> None:
        """Holds every op against the float64 reference on the first window."""
        prepared, cell = lane.prepared, lane.prepared.cell
        if cell.backend == "torch":
            return
        self.say(f"{cell.name}: parity", cell.key)

        def once(runner: Any) -> Losses:
            return losses_of(prepared.method(prepared.config, runner), self.runner, _window(example))

        found = self._held(lane, once)
        if lane.status == "ok":
            self._require_finite(lane, found, lambda: once(self._on_ops(lane)))

    @torch.inference_mode()
    def _pass(self, lane: Lane, example: Example, timed: bool = False) -> None:
        """One window."""
        cell, method, window = lane.prepared.cell, lane.method, _window(example)
        portable_before = portable_calls(cell.backend)
        found = losses_of(method, self.runner, window)
        self._require_finite(lane, found, lambda: losses_of(method, self.runner, window))
        portable = portable_calls(cell.backend) - portable_before
        unchecked = [UNCHECKED] if cell.backend == "torch" and not cell.is_full else []
        sample = Sample(
            cell=cell.key,
            task=cell.task,
            id=window.id,
            prediction="",
            answers=[],
            score=None,
            scorer=None,
            prompt_sha256=window.sha256,
            tokens=len(window.prefix) + len(window.context) + len(window.query),
            nll=float(found.scored.mean()),
            nll_by_position=None if found.whole is None else in_buckets(found.whole),
            warnings=[*window.warnings, *found.warnings, *portable, *unchecked],
            **found.sizes,
        )
        lane.samples.append(sample)

    def _require_finite(self, lane: Lane, found: Losses, again: Callable[[], object]) -> None:
        """Raises NotFinite where a token's loss is NaN or infinite."""
        for where, losses in (("scored token", found.scored), ("token", found.whole)):
            wrong = [] if losses is None else (~losses.isfinite()).nonzero()
            if len(wrong):
                what = f"the loss of {where} {int(wrong[0]) + 1}"
                raise not_finite(lane.prepared.cell.name, what, self.runner, again)

    def _known_sample(self, lane: Lane, example: Example) -> Sample | None:
        """The sample of an earlier run on these very ids."""
        return self.known.get((lane.prepared.cell.key, example.id, example.sha256))


def _window(example: Example) -> Window:
    assert isinstance(example, Window)
    return example
