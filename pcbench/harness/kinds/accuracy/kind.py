"""Methods on a model, by the scores of their answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pcbench.harness.kinds import Narrowed, Say, Taken
from pcbench.harness.kinds.accuracy.cells import AnswerCells
from pcbench.harness.kinds.accuracy.session import AccuracySession
from pcbench.harness.kinds.accuracy.settings import accuracy_suite
from pcbench.harness.kinds.accuracy.summary import average_records, records_by_words
from pcbench.harness.kinds.methods.cells import Prepared, Rules
from pcbench.harness.kinds.methods.kind import Methods
from pcbench.harness.kinds.methods.settings import MethodSuite
from pcbench.records import RunFolder
from pcbench.registry import task_tables
from pcbench.suites import Source
from pcbench.tasks.base import task_id
from pcbench.types import Record

__all__ = ["Accuracy"]


class Accuracy(Methods):
    """Answers to the prompts of tasks; nothing is timed."""

    rules = Rules()
    makes = AnswerCells
    by_prompt = True
    takes_tasks = True

    @classmethod
    def read(cls, source: Source, model: str | None, methods: Sequence[str]) -> MethodSuite:
        return accuracy_suite(source, model, methods)

    def session(self, folder: Path, shared: dict[str, Any]) -> AccuracySession:
        return AccuracySession(self.spec, shared, path=folder)

    def narrowed(self, prepared: Prepared) -> Narrowed:
        cell = prepared.cell
        task = cell.task if task_tables().is_file(cell.task) else cell.workload
        return Narrowed([f"suite.context_tokens=[{cell.context_tokens}]"], tasks=[task])

    def fixed(self) -> dict[str, list[Any]]:
        """Of prompts None where a task's own records decide, which may come later."""
        asked = [n for n in (self.limit, self.suite.settings.prompts) if n is not None]
        # a user's records with the hash of what they hold
        is_file, cells = task_tables().is_file, self.cells
        tasks = [task_id(p.cell.task, p.task) if is_file(p.cell.task) else p.cell.task for p in cells]
        prompts = [min(asked, default=None)] * len(self.cells)
        return super().fixed() | {"tasks": tasks, "prompts": prompts}

    def merged(
        self, cells: list[Prepared], shards: Sequence[Sequence[Taken]], shared: dict[str, Any], repro: str, say: Say
    ) -> list[Record]:
        return self.session(Path(), shared).merged(cells, shards, repro, say)

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
