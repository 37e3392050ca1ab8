"""What a run must hold before its numbers are believed: passed, failed, or too little to tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pcbench.report.reading.results import RESTLESS, Entry, Results
from pcbench.report.reading.runs import Run
from pcbench.report.verdict.changes import score_change
from pcbench.report.wording import counted, percent, points_span
from pcbench.statistics import MIN_SAMPLES

__all__ = ["Gate", "gates"]

# points by which a score may be lower before a speed-up is not believed
MARGIN_POINTS = 10.0
FAILED = ("error", "timeout")

State = Literal["passed", "failed", "cannot tell", "not checked"]


@dataclass(frozen=True)
class Gate:
    """One check of a run.

    Args:
        name: what is checked.
        state: "cannot tell" where there was something to check and too little or too noisy to say.
        text: what was found.
        evidence: anchor of the section behind it.
    """

    name: str
    state: State
    text: str
    evidence: str


def gates(results: Results, run: Run) -> list[Gate]:
    """Parity, completeness, and of runs with speed-ups how far times scatter, and accuracy beside speed."""
    entries = results.of(run)
    found = [_parity(entries), _complete(run, entries)]
    if ratios := [e for e in entries if e.vs_full or e.vs_reference or e.vs_baseline]:
        found.append(_speed(results, ratios))
    if speedy := [e for e in results.shown_in("accuracy", run) if e.vs_full is not None]:
        found.append(_accuracy(results, speedy))
    return found


def _parity(entries: Sequence[Entry]) -> Gate:
    wrong = [e for e in entries if e.record.status == "parity_failed" or (e.record.status == "ok" and not e.checked)]
    checked = [e for e in entries if e.record.backend != "torch" and e.usable]
    if wrong:
        return Gate("parity", "failed", f"{counted(len(wrong), 'cell')} without a passed check", "trust")
    if unheld := [e for e in entries if e.usable and not e.held]:
        text = f"{counted(len(unheld), 'cell')} on torch alone without an op to check, {len(checked):,} within bounds"
        return Gate("parity", "not checked", text, "trust")
    if not checked:
        return Gate("parity", "not checked", "nothing to check", "trust")
    evidence = "correctness" if any(e.record.parity_ops for e in entries) else "trust"
    return Gate("parity", "passed", f"{counted(len(checked), 'cell')} within bounds", evidence)


def _complete(run: Run, entries: Sequence[Entry]) -> Gate:
    """Out of memory and unsupported are results."""
    failed = [e for e in entries if e.record.status in FAILED]
    partial = [e for e in entries if e.record.skipped_records and e not in failed]
    if run.missing or failed or partial:
        text = f"{counted(run.missing, 'cell')} missing, {len(failed):,} failed"
        text += f", {len(partial):,} without some of their records" if partial else ""
        return Gate("complete", "failed", text, "trust")
    if absent := [e for e in entries if e.record.status == "data_missing"]:
        # the exit code of the run is 0, too
        return Gate("complete", "not checked", f"{counted(len(absent), 'cell')} without data, none failed", "trust")
    return Gate("complete", "passed", f"{counted(len(run.planned), 'cell')}, none failed", "trust")


def _speed(results: Results, entries: Sequence[Entry]) -> Gate:
    """Whether repeats are enough, and scatter little enough, for speed-ups to say something."""
    noise = {e: results.noise(e) for e in entries}
    short = [e for e in entries if (e.record.repeats or 0) < MIN_SAMPLES]
    restless = [e for e in entries if noise[e] > RESTLESS]
    limit, most = f"{percent(RESTLESS)} %", f"{percent(max(noise.values()))} %"
    of = counted(len(entries), "speed-up")
    said = [f"{len(short):,} of {of} from under {MIN_SAMPLES} repeats"] if short else []
    said += [f"repeats behind {len(restless):,} of {of} scatter beyond {limit}, up to {most}"] if restless else []
    if said:
        return Gate("speed", "cannot tell", "; ".join(said), "trust")
    return Gate("speed", "passed", f"repeats behind {of} scatter by at most {most}, under {limit}", "trust")


def _accuracy(results: Results, entries: Sequence[Entry]) -> Gate:
    """A speed-up counts where the score beside it is shown to be lower by less than the margin."""
    found = [c.difference for e in entries if (c := score_change(results, e)) is not None]
    cells = counted(len(found), "timed cell")
    if not found:
        return Gate("accuracy", "not checked", "no timed cell was scored beside full attention", "trust")
    if lower := sum(d.verdict() == "lower" for d in found):
        return Gate(
            "accuracy", "failed", f"{lower:,} of {cells} significantly below full attention's score", "accuracy"
        )
    if unknown := [d.words() for d in found if d.verdict() == "cannot tell"]:
        text = f"{len(unknown):,} of {cells} beside full attention's score: {unknown[0]}"
        return Gate("accuracy", "cannot tell", text, "accuracy")
    worst = min(found, key=lambda d: d.low or 0.0)
    text = (
        f"{cells}, none significantly below full attention's score; the lowest interval is {points_span(worst)} points"
    )
    if worst.low is None or worst.low <= -MARGIN_POINTS:
        text += f", which cannot rule out {-(worst.low or 0.0):.1f} points lower"
        return Gate("accuracy", "cannot tell", text, "accuracy")
    return Gate("accuracy", "passed", text, "accuracy")
