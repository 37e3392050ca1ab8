"""Runs side by side: what changed, what that allows to say, and whether a gate holds."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pcbench.errors import ConfigError
from pcbench.report.compare.environment import environment_changes
from pcbench.report.compare.paired import ROUNDING, LossChange, PairedChange, ScoreChange, loss_changes, score_changes
from pcbench.report.compare.results import Ending, MemoryChange, endings, memory_changes
from pcbench.report.compare.runs import read_compared
from pcbench.report.compare.times import MARGIN, TimeChange, absolute_times, joint_confidence, time_changes
from pcbench.report.wording import counted
from pcbench.statistics import repeats_that_tell

__all__ = ["Comparison", "compare", "read_margin", "read_points"]

SCHEMA = 1
# ratios that a line names
NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `pcbench compare --json` prints, key by key.

    Args:
        schema: of this table.
        runs: names, the baseline first.
        margin: a share; a regression is a `time_ratio` beyond 1 + margin whose interval excludes 1, or, where it holds
            for the ratio alone, lies beyond 1 + margin.
        gated: whether --fail-on was given.
        score_margin: 0…1, of --fail-on-score: points of a score, a share of a perplexity; null where neither is gated.
        environment: key → its value in each run, where they differ.
        endings: cells that did not end alike.
        times: every ratio to an in-run baseline, the worst first; see `TimeChange`.
        milliseconds: cell name → median in each run, null where it has none; shown, never judged.
        scores: see `ScoreChange`.
        losses: of perplexity; see `LossChange`.
        memory: see `MemoryChange`.
    """

    schema: int = SCHEMA
    runs: list[str]
    margin: float
    gated: bool
    score_margin: float | None
    environment: dict[str, list[str]]
    endings: list[Ending]
    times: list[TimeChange]
    milliseconds: dict[str, list[float | None]]
    scores: list[ScoreChange]
    losses: list[LossChange]
    memory: list[MemoryChange]

    @property
    def judged(self) -> list[PairedChange]:
        """What --fail-on-score is of."""
        return [*self.scores, *self.losses]

    def verdicts(self) -> Counter[str]:
        """How many ratios got which verdict."""
        return Counter(change.verdict for change in self.times)

    def lost(self) -> dict[str, set[str]]:
        """Each cell that was ok in the baseline run and is not in another → how it ended there."""
        return {
            ending.cell: {text.partition(":")[0] for text in ending.endings.values()} - {"ok"}
            for ending in self.endings
            if ending.endings[self.runs[0]] == "ok"
        }

    def unjudged(self) -> list[str]:
        """Of a gate, a line a run: that nothing in it could be judged, or what may be a regression."""
        lines = []
        for run in self.runs[1:]:
            if self.gated:
                lines.append(self._unjudged(run, [change for change in self.times if change.run == run]))
            if self.score_margin is not None:
                lines.append(_unjudged_means(run, [change for change in self.judged if change.run == run]))
        return [line for line in lines if line]

    def _unjudged(self, run: str, changes: Sequence[TimeChange]) -> str:
        if all(change.verdict == "cannot tell" for change in changes):
            got = f"{len(changes)} that cannot tell" if changes else "none"
            return f"compare: at least one ratio of {run} that can be judged, got {got}; {self._remedy(changes)}"
        undecided = [change for change in changes if change.undecided]
        if not undecided:
            return ""
        return f"compare: every ratio of {run} judged, got cannot tell for {_listed(_said(c) for c in undecided)}"

    def _remedy(self, changes: Sequence[TimeChange]) -> str:
        if not changes:
            return "compare runs that timed the same cells beside a baseline"
        made = sum(change.time_ratio is not None for change in self.times)
        enough = repeats_that_tell(joint_confidence(made))
        if any(change.time_ratio is not None and min(change.repeats) < enough for change in changes):
            return f"measure with repeats = {enough}"
        return "measure both again, with more repeats or on a quieter machine"

    def exit_code(self) -> int:
        """Of a gate: 3 a regression or a lost parity, 1 a cell lost otherwise or something unjudged, else 0."""
        if not self.gated and self.score_margin is None:
            return 0
        lost = self.lost()
        slower = self.gated and self.verdicts()["regression"]
        worse = any(change.regression for change in self.judged)
        if slower or worse or any("parity_failed" in how for how in lost.values()):
            return 3
        return 1 if lost or self.unjudged() else 0

    def as_data(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def compare(paths: Sequence[Path], fail_on: float | None = None, fail_on_score: float | None = None) -> Comparison:
    """Holds runs against the first one.

    Args:
        paths: run folders, the baseline first.
        fail_on: the margin of the gate of ratios, a share; None compares by 5 % and gates no ratio.
        fail_on_score: the margin of the gate of scores, 0…1, and a share of perplexity; None gates neither.

    Raises:
        PcbenchError: runs that cannot be compared, by the first thing that differs.
    """
    runs = read_compared(paths)
    margin = MARGIN if fail_on is None else fail_on
    return Comparison(
        runs=[run.name for run in runs],
        margin=margin,
        gated=fail_on is not None,
        score_margin=fail_on_score,
        environment=environment_changes(runs),
        endings=endings(runs),
        times=time_changes(runs, margin),
        milliseconds=absolute_times(runs),
        scores=score_changes(runs, fail_on_score),
        losses=loss_changes(runs, fail_on_score),
        memory=memory_changes(runs),
    )


def _said(change: TimeChange) -> str:
    """A ratio and why there is no verdict on it."""
    factor = "" if change.time_ratio is None else f" ×{change.time_ratio:.3f}"
    return f"{change.name} {change.ratio}{factor}: {change.why}"


def _unjudged_means(run: str, changes: Sequence[PairedChange]) -> str:
    """Scores and losses that may be worse by the margin, or that none of a run can be judged."""
    if all(change.verdict.startswith("cannot tell") for change in changes):
        if not changes:
            return (
                f"compare: at least one score or loss of {run} that can be judged, got none; compare runs that scored "
                "the same cells"
            )
        first, kept = changes[0], any(change.prompts for change in changes)
        remedy = first.more if kept else "compare runs with their samples"
        got = f"{len(changes)}: {first.verdict}"
        return f"compare: at least one {first.what} of {run} that can be judged, got {got}; {remedy}"
    undecided = [change for change in changes if change.undecided]
    if not undecided:
        return ""
    return (
        f"compare: every {undecided[0].what} of {run} judged, got cannot tell for {_listed(map(_said_of, undecided))}"
    )


def _said_of(change: PairedChange) -> str:
    """A score or a loss that is missing, or worse by the margin, and why that is no regression."""
    if change.after is None:
        return f"{change.name}: no {change.what} in {change.run}"
    pairs, whole = counted(change.prompts, change.noun), change.after - change.before
    if change.difference is None or change.worsening(change.difference - whole) < -ROUNDING:
        means = f"{change.written(change.before)}, then {change.written(change.after)}"
        return f"{change.name} {means}, with {pairs} kept by both runs"
    difference = f"{change.written(change.difference, '+')} {change.unit} of {pairs}"
    together = f"{change.worse}, but not for all {change.plural} together"
    return f"{change.name} {difference}: {together if change.verdict == change.worse else change.verdict}"


def _listed(said: Iterable[str]) -> str:
    lines = list(said)
    more = len(lines) - NAMED
    return "; ".join(lines[:NAMED]) + f"; and {more} more" * (more > 0)


def read_points(text: str) -> float:
    """`5` points of 100 as 0.05.

    Raises:
        ConfigError: anything but a number above 0 and up to 100.
    """
    try:
        points = float(text)
    except ValueError:
        points = 0.0
    if not 0 < points <= 100:
        raise ConfigError(f"--fail-on-score: points above 0 and up to 100, got {text!r}; give them as 5")
    return points / 100


def read_margin(text: str) -> float:
    """`5%` as 0.05.

    Raises:
        ConfigError: anything but a percentage above 0 and up to 100.
    """
    number, sign, rest = text.partition("%")
    try:
        share = float(number) / 100
    except ValueError:
        share = 0.0
    if not sign or rest or not 0 < share <= 1:
        raise ConfigError(f"--fail-on: a percentage above 0% and up to 100%, got {text!r}; give one as 5%")
    return share
