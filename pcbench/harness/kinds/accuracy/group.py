"""Accuracy suites: every sample is on the disk before the next prompt, and ranks share the prompts of a cell."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pcbench.errors import BadRecord, RankLost
from pcbench.harness.kinds.accuracy.summary import Outcome, joined, summarise_accuracy
from pcbench.harness.kinds.methods.cells import Prepared
from pcbench.harness.kinds.methods.group import Group, first_line
from pcbench.harness.kinds.methods.lane import Lane
from pcbench.harness.kinds.methods.prompts import build_example, prompt_choice
from pcbench.harness.kinds.methods.session import Measured, ModelSession, lost_by
from pcbench.harness.processes import ranks
from pcbench.models.runner import HFRunner
from pcbench.records import PromptKey, RunFolder, prompt_key
from pcbench.tasks import Example
from pcbench.tasks.base import Prompts
from pcbench.types import CHAT_DATE, Cell, Sample, Status

__all__ = ["AccuracyGroup", "AccuracySession"]

Known = dict[PromptKey, Sample]
# one prompt by what a group's cells choose
Choice = tuple[Prompts, int | None]
Examples = dict[Choice, Example]


class AccuracyGroup(Group):
    """The cells that share model, task and length; this rank's part of their prompts.

    Args:
        cells: of one group.
        runner: the loaded model.
        say: told what is being done.
        known: samples of earlier runs, taken where they answer the same record by the same scorer.
        keep: puts a finished sample on the disk.
    """

    def __init__(
        self,
        cells: list[Prepared],
        runner: HFRunner,
        say: Callable[[str], None],
        known: Known,
        keep: Callable[[Sample], None],
    ) -> None:
        super().__init__(cells, runner, say)
        self.known, self.keep = known, keep
        self.ended_at: dict[str, int] = {}
        # prompt → why its record is no prompt
        self.skipped: dict[int, str] = {}
        self.prompts: dict[Choice, str] = {}

    def outcomes(self) -> list[Outcome]:
        """What became of every cell on this rank."""
        cell = self.lanes[0].prepared.cell
        at, first = self._first(cell.prompts)
        if first:
            self.prompts = {choice: whose(cell, example) for choice, example in first.items()}
            for lane in self.lanes:
                self._guarded(lane, lambda lane=lane: self._open(lane))  # type: ignore[misc]
                # on every rank: a sample counts where parity passed in its own process
                self._guarded(lane, lambda lane=lane: self._first_pass(lane, _of(lane, first)))  # type: ignore[misc]
            for index in ranks.share(range(cell.prompts)):
                if examples := first if index == at else self._examples(index):
                    self._take(index, examples)
                if not self._going():
                    break
        return [self._outcome(lane) for lane in self.lanes]

    def _first(self, prompts: int) -> tuple[int, Examples]:
        """The first prompt that a record makes, the same on every rank; nothing where the lanes have ended."""
        # where there is none, the first record's error says why
        for index in range(prompts or 1):
            if examples := self._examples(index):
                return index, examples
            if not self._going():
                return index, {}
        for lane in self.lanes:
            lane.end("error", f"none of {prompts} records can be used, the first: {self.skipped[0]}")
        return 0, {}

    def _going(self) -> bool:
        return any(lane.status == "ok" for lane in self.lanes)

    def _examples(self, index: int) -> Examples:
        """Nothing where the record is bad, or where an error of the task has ended every lane."""
        cells = {prompt_choice(lane.prepared.cell): lane.prepared for lane in self.lanes}
        try:
            return {choice: build_example(prepared, self.runner.tokenizer, index) for choice, prepared in cells.items()}
        except BadRecord as error:
            self.skipped[index] = str(error)
        except RankLost:
            raise
        except Exception as error:  # becomes the status of every cell
            for lane in self.lanes:
                if lane.status == "ok":
                    self._end(lane, error)
                    self.ended_at[lane.prepared.cell.key] = index
        return {}

    def _take(self, index: int, examples: Examples) -> None:
        """One prompt through every cell that still goes on."""
        for lane in self.lanes:
            cell, example = lane.prepared.cell, _of(lane, examples)
            if lane.status != "ok":
                continue
            self.say(f"{cell.name}: prompt {index + 1} of {cell.prompts}")
            if (sample := self._known_sample(lane, example)) is not None:
                lane.samples.append(sample)
                continue
            self._guarded(lane, lambda lane=lane, example=example: self._pass(lane, example))  # type: ignore[misc]
            if lane.status != "ok":
                self.ended_at[cell.key] = index
                continue
            lane.samples[-1].index = index
            self.keep(lane.samples[-1])

    def _known_sample(self, lane: Lane, example: Example) -> Sample | None:
        """The sample of an earlier run, where it is what this record would give again."""
        cell = lane.prepared.cell
        sample = self.known.get((cell.key, example.id, example.sha256))
        if sample is None:
            return None
        again = self._scored(cell, example, sample.prediction) | {"words": example.words}
        return sample if all(getattr(sample, name) == value for name, value in again.items()) else None

    def _outcome(self, lane: Lane) -> Outcome:
        return Outcome(
            samples=lane.samples,
            status=lane.status,
            reason=lane.reason,
            trace=lane.trace,
            parity=lane.parity,
            ended_at=self.ended_at.get(lane.prepared.cell.key, -1),
            prompts=self.prompts.get(prompt_choice(lane.prepared.cell)),
            skipped=self.skipped,
        )


def _of(lane: Lane, examples: Examples) -> Example:
    return examples[prompt_choice(lane.prepared.cell)]


def whose(cell: Cell, example: Example) -> str:
    """Whose words a prompt has, and the choices of a chat template where there were some."""
    told = [f"{name} = {json.dumps(value)}" for name, value in sorted(cell.chat_arguments.items())]
    told += [f"date {cell.chat_date}"] if cell.chat_date != CHAT_DATE else []
    chat = [f"chat template {cell.chat}"] if cell.chat != "auto" or told else []
    return ", ".join([example.prompts, *chat, *told])


@dataclass
class AccuracySession(ModelSession):
    """The model once it is loaded, and the folder that keeps the samples.

    Args:
        path: of the run's folder.
        known: the samples in it when the first group began.
    """

    path: Path = field(kw_only=True)
    known: Known | None = None

    def fresh(self) -> "AccuracySession":
        return AccuracySession(self.spec, self.shared, path=self.path)

    def measure(self, cells: list[Prepared], repro: str, say: Callable[[str], None]) -> Measured:
        """This rank's prompts of a group; the records of all ranks' prompts on rank 0, none on the others."""
        shares = ranks.gather(self._outcomes(cells, say))
        if ranks.rank():
            return Measured([], [])
        outcomes = [joined(parts) for parts in zip(*shares, strict=True)]
        self._drop_others(cells, outcomes)
        # of a record, so of all cells alike
        notes = [f"skipped {why}" for why in outcomes[0].skipped.values()]
        records = summarise_accuracy(cells, outcomes, self.spec, self.shared, repro, notes.append)
        traces = {p.cell.key: o.trace for p, o in zip(cells, outcomes, strict=True) if o.trace}
        return Measured(records, [], traces, notes)

    def lost(self, cells: list[Prepared], repro: str, status: Status, reason: str) -> Measured:
        """Every cell with this status; its finished samples stay for --resume."""
        outcomes = [Outcome(status=status, reason=reason)] * len(cells)
        return Measured(summarise_accuracy(cells, outcomes, self.spec, self.shared, repro, [].append), [])

    def _drop_others(self, cells: list[Prepared], outcomes: list[Outcome]) -> None:
        """Samples of prompts that finished cells no longer have, as when a task's file has changed."""
        ended = [(p.cell.key, o) for p, o in zip(cells, outcomes, strict=True) if o.status == "ok"]
        done = {key: {prompt_key(s) for s in outcome.samples} for key, outcome in ended}
        others = {prompt for prompt in self.known or () if prompt not in done.get(prompt[0], {prompt})}
        if others:
            samples = RunFolder(self.path).samples
            samples.replace([s for s in samples.read() if prompt_key(s) not in others])

    def _outcomes(self, cells: list[Prepared], say: Callable[[str], None]) -> list[Outcome]:
        folder = RunFolder(self.path, ranks.rank())
        if self.known is None:
            self.known = {prompt_key(s): s for s in RunFolder(self.path).samples.read()}
        if cells[0].missing:
            return [Outcome(status="data_missing", reason=cells[0].missing)] * len(cells)
        say("loading the model")
        try:
            runner = self.runner(cells[0])
        except Exception as error:
            return [Outcome(status=lost_by(error), reason=first_line(error))] * len(cells)
        return AccuracyGroup(cells, runner, say, self.known, lambda sample: folder.samples.append([sample])).outcomes()
