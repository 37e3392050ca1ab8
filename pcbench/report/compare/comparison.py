"""Runs side by side: what changed, what that allows to say, and whether a gate holds."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pcbench.errors import ConfigError
from pcbench.report.compare.environment import environment_changes
from pcbench.report.compare.results import (
    ROUNDING,
    Ending,
    MemoryChange,
    ScoreChange,
    endings,
    memory_changes,
    score_changes,
)
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
        score_margin: 0…1, of --fail-on-score; null where scores are not gated.
        environment: key → its value in each run, where they differ.
        endings: cells that did not end alike.
        times: every ratio to an in-run baseline, the worst first; see `TimeChange`.
        milliseconds: cell name → median in each run, null where it has none; shown, never judged.
        scores: see `ScoreChange`.
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
    memory: list[MemoryChange]

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
                lines.append(_unjudged_scores(run, [change for change in self.scores if change.run == run]))
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
        lower = any(change.regression for change in self.scores)
        if slower or lower or any("parity_failed" in how for how in lost.values()):
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
        fail_on_score: the margin of the gate of scores, 0…1; None gates no score.

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
        memory=memory_changes(runs),
    )


def _said(change: TimeChange) -> str:
    """A ratio and why there is no verdict on it."""
    factor = "" if change.time_ratio is None else f" ×{change.time_ratio:.3f}"
    return f"{change.name} {change.ratio}{factor}: {change.why}"


def _unjudged_scores(run: str, changes: Sequence[ScoreChange]) -> str:
    """Scores that may be lower by the margin, or that none of a run can be judged."""
    if all(change.verdict.startswith("cannot tell") for change in changes):
        got = f"{len(changes)}: {changes[0].verdict}" if changes else "none"
        kept = "answer more prompts" if any(change.prompts for change in changes) else "compare runs with their samples"
        remedy = kept if changes else "compare runs that scored the same cells"
        return f"compare: at least one score of {run} that can be judged, got {got}; {remedy}"
    undecided = [change for change in changes if change.undecided]
    if not undecided:
        return ""
    return f"compare: every score of {run} judged, got cannot tell for {_listed(map(_said_of_score, undecided))}"


def _said_of_score(change: ScoreChange) -> str:
    """A score that is missing, or lower by the margin, and why that is no regression."""
    if change.after is None:
        return f"{change.name}: no score in {change.run}"
    if change.difference is None or change.difference > change.after - change.before + ROUNDING:
        scores = f"{100 * change.before:.1f}, then {100 * change.after:.1f}"
        return f"{change.name} {scores}, with {counted(change.prompts, 'prompt')} kept by both runs"
    points = f"{100 * change.difference:+.1f} points of {counted(change.prompts, 'prompt')}"
    alone = "lower, but not for all scores together" if change.verdict == "lower" else change.verdict
    return f"{change.name} {points}: {alone}"


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
