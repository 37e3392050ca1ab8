"""Methods on a model, by the scores of their answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pcbench.harness.kinds import Narrowed, Say
from pcbench.harness.kinds.accuracy.cells import AnswerCells
from pcbench.harness.kinds.accuracy.session import AccuracySession
from pcbench.harness.kinds.accuracy.settings import accuracy_suite
from pcbench.harness.kinds.accuracy.summary import average_records, records_by_words
from pcbench.harness.kinds.methods.cells import Prepared, Rules
from pcbench.harness.kinds.methods.kind import Methods
from pcbench.harness.kinds.methods.settings import MethodSuite
from pcbench.records import RunFolder
from pcbench.suites import Source
from pcbench.types import Record

__all__ = ["Accuracy"]


class Accuracy(Methods):
    """Answers to the prompts of tasks; nothing is timed."""

    rules = Rules()
    makes = AnswerCells
    by_prompt = True

    @classmethod
    def read(cls, source: Source, model: str | None, methods: Sequence[str]) -> MethodSuite:
        return accuracy_suite(source, model, methods)

    def session(self, folder: Path, shared: dict[str, Any]) -> AccuracySession:
        return AccuracySession(self.spec, shared, path=folder)

    def narrowed(self, prepared: Prepared) -> Narrowed:
        cell = prepared.cell
        return Narrowed([f"suite.tasks=[{cell.workload}]", f"suite.context_tokens=[{cell.context_tokens}]"])

    def fixed(self) -> dict[str, list[Any]]:
        """Of prompts None where a task's own records decide, which may come later."""
        asked = [n for n in (self.limit, self.suite.settings.prompts) if n is not None]
        return super().fixed() | {"prompts": [min(asked, default=None)] * len(self.cells)}

    def derived(self, folder: RunFolder, shared: dict[str, Any], repro: str, say: Say) -> list[Record]:
        """Scores by the length of records and averages over datasets, where the suite wants them."""
        settings = self.suite.settings
        if not (settings.by_words or settings.average):
            return []
        records = {record.cell: record for record in folder.records.read()}
        samples, found = folder.samples.read(), list[Record]()
        if settings.by_words:
            found += records_by_words(self.cells, records, samples, self.spec, shared, repro)
        if settings.average:
            found += average_records(self.cells, records, samples, settings.average, shared, repro, say)
        return found
