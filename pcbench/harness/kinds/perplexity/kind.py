"""Methods on a model, by the loss on a text that is given."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pcbench.harness.kinds import Narrowed, Say, Taken
from pcbench.harness.kinds.methods.cells import Prepared, Rules
from pcbench.harness.kinds.methods.kind import Methods
from pcbench.harness.kinds.methods.settings import MethodSuite
from pcbench.harness.kinds.perplexity.cells import WindowCells
from pcbench.harness.kinds.perplexity.session import PerplexitySession
from pcbench.harness.kinds.perplexity.settings import perplexity_suite
from pcbench.suites import Source
from pcbench.types import Record

__all__ = ["Perplexity"]


class Perplexity(Methods):
    """Losses of the last tokens of windows; nothing is timed."""

    rules = Rules(scored=False)
    makes = WindowCells
    by_prompt = True

    @classmethod
    def read(cls, source: Source, model: str | None, methods: Sequence[str]) -> MethodSuite:
        return perplexity_suite(source, model, methods)

    def session(self, folder: Path, shared: dict[str, Any]) -> PerplexitySession:
        return PerplexitySession(self.spec, shared, path=folder)

    def merged(
        self, cells: list[Prepared], shards: Sequence[Sequence[Taken]], shared: dict[str, Any], repro: str, say: Say
    ) -> list[Record]:
        return self.session(Path(), shared).merged(cells, shards, repro, say)

    def narrowed(self, prepared: Prepared) -> Narrowed:
        # of the same windows
        lengths = (
            f"suite.context_tokens=[{prepared.cell.context_tokens}]",
            f"suite.longest_tokens={prepared.task.longest}",
        )
        return Narrowed([*lengths])
