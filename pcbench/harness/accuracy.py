"""Accuracy suites: every sample is on the disk before the next prompt, and ranks share the prompts of a cell."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pcbench.errors import ConfigError, DataMissing
from pcbench.harness import ranks
from pcbench.harness.accuracy_summary import Outcome, joined, summarise_accuracy
from pcbench.harness.cells import Prepared
from pcbench.harness.group import Group, first_line
from pcbench.harness.lane import Lane
from pcbench.harness.prompts import build_example, prompt_choice
from pcbench.harness.session import Measured, ModelSession
from pcbench.measure.memory import is_out_of_memory
from pcbench.models.runner import HFRunner
from pcbench.records import RunFolder
from pcbench.tasks import Example, load_task
from pcbench.tasks.base import Prompts
from pcbench.types import Cell, Sample, Status

__all__ = ["AccuracyGroup", "AccuracySession"]

# (cell, prompt) → its sample
Known = dict[tuple[str, str], Sample]
# one prompt by what a group's cells choose
Choice = tuple[Prompts, int | None]
Examples = dict[Choice, Example]


class AccuracyGroup(Group):
    """The cells that share model, task and length; this rank's part of their prompts.

    Args:
        cells: of one group.
        runner: the loaded model.
        say: told what is being done.
        known: samples of earlier runs, taken where cell, prompt, task version and scorer are the same.
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
        self.prompts: dict[Choice, str] = {}

    def outcomes(self) -> list[Outcome]:
        """What became of every cell on this rank."""
        cell = self.lanes[0].prepared.cell
        try:
            first = self._examples(0)
            self.prompts = {choice: whose(cell, example) for choice, example in first.items()}
            for lane in self.lanes:
                self._guarded(lane, lambda lane=lane: self._open(lane))  # type: ignore[misc]
                # on every rank: a sample counts where parity passed in its own process
                self._guarded(lane, lambda lane=lane: self._first_pass(lane, _of(lane, first)))  # type: ignore[misc]
            for index in ranks.share(range(cell.prompts)):
                self._take(index, self._examples(index) if index else first)
        except (ConfigError, DataMissing) as error:
            # of the task: no cell of the group can go on
            for lane in self.lanes:
                if lane.status == "ok":
                    lane.end("data_missing" if isinstance(error, DataMissing) else "unsupported", str(error))
        return [self._outcome(lane) for lane in self.lanes]

    def _examples(self, index: int) -> Examples:
        cells = {prompt_choice(lane.prepared.cell): lane.prepared for lane in self.lanes}
        return {choice: build_example(prepared, self.runner.tokenizer, index) for choice, prepared in cells.items()}

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
        task = load_task(lane.prepared.cell.task, "task")
        sample = self.known.get((lane.prepared.cell.key, example.sha256))
        by = f"{lane.prepared.cell.task}@{task.version}", task.scorer_id if self.runner.spec.trained else None
        return sample if sample is not None and (sample.task, sample.scorer) == by else None

    def _outcome(self, lane: Lane) -> Outcome:
        return Outcome(
            samples=lane.samples,
            status=lane.status,
            reason=lane.reason,
            trace=lane.trace,
            parity=lane.parity,
            ended_at=self.ended_at.get(lane.prepared.cell.key, -1),
            prompts=self.prompts.get(prompt_choice(lane.prepared.cell)),
        )


def _of(lane: Lane, examples: Examples) -> Example:
    return examples[prompt_choice(lane.prepared.cell)]


def whose(cell: Cell, example: Example) -> str:
    """Whose words a prompt has, and the choice of a chat template where there was one."""
    return example.prompts if cell.chat == "auto" else f"{example.prompts}, chat template {cell.chat}"


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
        notes: list[str] = []
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
        done = {key: {s.prompt_sha256 for s in outcome.samples} for key, outcome in ended}
        others = {key for key in self.known or () if key[0] in done and key[1] not in done[key[0]]}
        if others:
            samples = RunFolder(self.path).samples
            samples.replace([s for s in samples.read() if (s.cell, s.prompt_sha256) not in others])

    def _outcomes(self, cells: list[Prepared], say: Callable[[str], None]) -> list[Outcome]:
        folder = RunFolder(self.path, ranks.rank())
        if self.known is None:
            self.known = {(s.cell, s.prompt_sha256): s for s in RunFolder(self.path).samples.read()}
        if cells[0].missing:
            return [Outcome(status="data_missing", reason=cells[0].missing)] * len(cells)
        say("loading the model")
        try:
            runner = self.runner(cells[0])
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return [Outcome(status="out_of_memory", reason=first_line(error))] * len(cells)
        return AccuracyGroup(cells, runner, say, self.known, lambda sample: folder.samples.append([sample])).outcomes()
