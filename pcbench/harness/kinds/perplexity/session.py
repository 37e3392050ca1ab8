"""What groups of windows share: the loaded model, and the folder in which every sample is before the next window."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pcbench.harness.kinds.accuracy.group import AccuracyGroup
from pcbench.harness.kinds.accuracy.outcomes import Outcome
from pcbench.harness.kinds.accuracy.session import AccuracySession
from pcbench.harness.kinds.methods.cells import Prepared
from pcbench.harness.kinds.perplexity.group import PerplexityGroup
from pcbench.harness.kinds.perplexity.summary import summarise_losses
from pcbench.types import Record

__all__ = ["PerplexitySession"]


@dataclass
class PerplexitySession(AccuracySession):
    """One of windows in place of prompts."""

    group: ClassVar[type[AccuracyGroup]] = PerplexityGroup

    def summarise(
        self, cells: Sequence[Prepared], outcomes: Sequence[Outcome], repro: str, note: Callable[[str], None]
    ) -> list[Record]:
        return summarise_losses(cells, outcomes, self.spec, self.shared, repro)
