"""What groups of answers share: the loaded model, and the folder in which every sample is before the next prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Self

from pcbench.errors import first_line
from pcbench.harness.kinds import Measured, Say, Taken
from pcbench.harness.kinds.accuracy.group import AccuracyGroup, Known
from pcbench.harness.kinds.accuracy.outcomes import Outcome, joined, outcome_of, part_of
from pcbench.harness.kinds.accuracy.summary import summarise_accuracy
from pcbench.harness.kinds.methods.cells import Prepared
from pcbench.harness.kinds.methods.session import ModelSession, lost_by
from pcbench.harness.processes import ranks
from pcbench.records import RunFolder, prompt_key
from pcbench.types import Record, Status

__all__ = ["AccuracySession"]


@dataclass
class AccuracySession(ModelSession):
    """The model once it is loaded, and the folder that keeps the samples.

    Args:
        path: of the run's folder.
        known: the samples in it when the first group began.
    """

    path: Path = field(kw_only=True)
    known: Known | None = None
    group: ClassVar[type[AccuracyGroup]] = AccuracyGroup

    def fresh(self) -> Self:
        return type(self)(self.spec, self.shared, path=self.path)

    def measure(self, cells: list[Prepared], repro: str, say: Say) -> Measured:
        """This rank's prompts of a group; the records of all ranks' prompts on rank 0, none on the others."""
        shares = ranks.gather(self._outcomes(cells, say))
        if ranks.rank():
            return Measured([], [])
        outcomes = [joined(parts) for parts in zip(*shares, strict=True)]
        self._drop_others(cells, outcomes)
        # of a record, so of all cells alike
        notes = [f"skipped {why}" for why in outcomes[0].skipped.values()]
        return self._measured(cells, outcomes, repro, notes)

    def lost(self, cells: list[Prepared], repro: str, status: Status, reason: str) -> Measured:
        """Every cell with this status; its finished samples stay for --resume."""
        return self._measured(cells, [Outcome(status=status, reason=reason)] * len(cells), repro, [])

    def merged(
        self, cells: list[Prepared], shards: Sequence[Sequence[Taken]], repro: str, note: Callable[[str], None]
    ) -> list[Record]:
        """Records of a group whose prompts shards have shared; arguments as of `Kind.merged`."""
        outcomes = [joined([outcome_of(taken) for taken in of_cell]) for of_cell in zip(*shards, strict=True)]
        return self.summarise(cells, outcomes, repro, note)

    def _measured(self, cells: list[Prepared], outcomes: list[Outcome], repro: str, notes: list[str]) -> Measured:
        records = self.summarise(cells, outcomes, repro, notes.append)
        pairs = [(p.cell, o) for p, o in zip(cells, outcomes, strict=True)]
        traces = {cell.key: outcome.trace for cell, outcome in pairs if outcome.trace}
        parts = [part_of(cell, outcome) for cell, outcome in pairs if cell.share[1] > 1]
        return Measured(records, [], traces, notes, parts)

    def summarise(
        self, cells: Sequence[Prepared], outcomes: Sequence[Outcome], repro: str, note: Callable[[str], None]
    ) -> list[Record]:
        """One record a cell; arguments as of `summarise_accuracy`."""
        return summarise_accuracy(cells, outcomes, self.spec, self.shared, repro, note)

    def _drop_others(self, cells: list[Prepared], outcomes: list[Outcome]) -> None:
        """Samples of prompts that finished cells no longer have, as when a task's file has changed."""
        ended = [(p.cell.key, o) for p, o in zip(cells, outcomes, strict=True) if o.status == "ok"]
        done = {key: {prompt_key(s) for s in outcome.samples} for key, outcome in ended}
        others = {prompt for prompt in self.known or () if prompt not in done.get(prompt[0], {prompt})}
        if others:
            samples = RunFolder(self.path).samples
            samples.replace([s for s in samples.read() if prompt_key(s) not in others])

    def _outcomes(self, cells: list[Prepared], say: Say) -> list[Outcome]:
        if self.known is None:
            self.known = {prompt_key(s): s for s in RunFolder(self.path).samples.read()}
        here = [prepared for prepared in cells if not prepared.missing]
        answered = iter(self._answered(here, say, self.known) if here else [])
        return [Outcome(status="data_missing", reason=p.missing) if p.missing else next(answered) for p in cells]

    def _answered(self, cells: list[Prepared], say: Say, known: Known) -> list[Outcome]:
        """Cells that miss nothing."""
        folder = RunFolder(self.path, ranks.rank())
        say("loading the model")
        try:
            runner = self.runner(cells[0])
        except Exception as error:
            return [Outcome(status=lost_by(error), reason=first_line(error))] * len(cells)
        found = self.group(cells, runner, say, known, lambda sample: folder.samples.append([sample])).outcomes()
        return [replace(outcome, weights=self.weights) for outcome in found]
