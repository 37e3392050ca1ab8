"""Accuracy suites: every sample is on the disk before the next prompt, and ranks share the prompts of a cell."""

import json
from collections.abc import Callable

from pcbench.errors import BadRecord, RankLost
from pcbench.harness.kinds import Say
from pcbench.harness.kinds.accuracy.outcomes import Outcome
from pcbench.harness.kinds.methods.cells import Prepared
from pcbench.harness.kinds.methods.group import Group
from pcbench.harness.kinds.methods.lane import Lane
from pcbench.harness.kinds.methods.prompts import build_example, prompt_choice
from pcbench.harness.processes import ranks
from pcbench.models.runner import HFRunner
from pcbench.records import PromptKey
from pcbench.tasks import Example
from pcbench.tasks.base import Prompts
from pcbench.types import CHAT_DATE, Cell, Sample

__all__ = ["AccuracyGroup", "Known"]

Known = dict[PromptKey, Sample]
# one prompt by what a group's cells choose
Choice = tuple[Prompts, int | None]
Examples = dict[Choice, Example]


class AccuracyGroup(Group):
    """The cells that share model, task and length; this rank's part of their prompts, or of their shard's.

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
        say: Say,
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
            for index in ranks.share(cell.indices):
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
            built = {choice: self._example(prepared, index) for choice, prepared in cells.items()}
            return {choice: example for choice, example in built.items() if example is not None}
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

    def _example(self, prepared: Prepared, index: int) -> Example | None:
        """One prompt of a cell; None behind the last."""
        return build_example(prepared, self.runner.tokenizer, index)

    def _take(self, index: int, examples: Examples) -> None:
        """One prompt through every cell that still goes on."""
        for lane in self.lanes:
            cell, example = lane.prepared.cell, _of(lane, examples)
            if lane.status != "ok":
                continue
            self.say(f"{cell.name}: prompt {index + 1} of {cell.prompts}", cell.key)
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
        again = self._scored(lane.prepared, example, sample.prediction) | {"words": example.words}
        return sample if all(getattr(sample, name) == value for name, value in again.items()) else None

    def _outcome(self, lane: Lane) -> Outcome:
        # a task without records has an error at the first
        indices = lane.prepared.cell.indices or (0,)
        return Outcome(
            samples=lane.samples,
            status=lane.status,
            reason=lane.reason,
            trace=lane.trace,
            parity=lane.parity,
            ended_at=self.ended_at.get(lane.prepared.cell.key, -1),
            prompts=self.prompts.get(prompt_choice(lane.prepared.cell)),
            skipped={index: why for index, why in self.skipped.items() if index in indices},
            attention=lane.attention(),
            attention_warnings=lane.attention_warnings(),
        )


def _of(lane: Lane, examples: Examples) -> Example:
    return examples[prompt_choice(lane.prepared.cell)]


def whose(cell: Cell, example: Example) -> str:
    """Whose words a prompt has, and the choices of a chat template where there were some."""
    told = [f"{name} = {json.dumps(value)}" for name, value in sorted(cell.chat_arguments.items())]
    told += [f"date {cell.chat_date}"] if cell.chat_date != CHAT_DATE else []
    chat = [f"chat template {cell.chat}"] if cell.chat != "auto" or told else []
    return ", ".join([example.prompts, *chat, *told])
