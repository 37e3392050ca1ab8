"""Speed-ups of two runs against each other: ratios to the in-run baseline, from raw samples."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from pcbench.report.compare.runs import ComparedRun, shared_cells
from pcbench.statistics import percentile, ratio_change, reached_confidence, repeats_that_tell
from pcbench.types import Record

__all__ = ["MARGIN", "TimeChange", "Verdict", "absolute_times", "joint_confidence", "judge", "time_changes"]

# without --fail-on, what counts as beyond
MARGIN = 0.05
# an in-run baseline that takes so many times as long, or as short, was not measured under like conditions
MOVED = 1.5
# what the repeats of a ratio must reach alone, where they do not reach what all ratios together ask
ALONE = 0.95
RATIOS = ("speedup_vs_full", "speedup_vs_reference", "speedup_vs_baseline")

Verdict = Literal["regression", "cannot tell", "slower", "faster", "same"]


@dataclass(frozen=True, kw_only=True)
class TimeChange:
    """One speed-up of one cell in the baseline run and in another run.

    Args:
        run: the other run.
        cell: its key.
        name: its name.
        ratio: speedup_vs_full, speedup_vs_reference or speedup_vs_baseline.
        against: method/backend of the in-run baseline, the same in both runs.
        before: the speed-up in the baseline run, ratio of medians.
        after: the same against `against` in the other run; None where it has none.
        time_ratio: how many times as long the cell takes in the other run, relative to its in-run baseline.
        ci_low: of `time_ratio`, jointly with all others of the comparison or, where `why` says so, alone; None under
            too few repeats.
        ci_high: the same.
        repeats: in the baseline run and in the other.
        in_run_baseline_ratio: how many times as long the in-run baseline itself takes in the other run.
        verdict: by the margin.
        undecided: it may be a regression: it cannot be made, or is beyond the margin by its own 95 % interval, or
            without one, and no regression.
        why: for "cannot tell", what is missing; else what is short of an interval that holds jointly.
    """

    run: str
    cell: str
    name: str
    ratio: str
    against: str
    before: float
    after: float | None
    time_ratio: float | None
    ci_low: float | None
    ci_high: float | None
    repeats: tuple[int, int]
    in_run_baseline_ratio: float | None
    verdict: Verdict
    undecided: bool
    why: str | None = None


@dataclass(frozen=True)
class _Pair:
    """A ratio: the records of the cell and of its in-run baseline in both runs, or what is missing."""

    run: str
    ratio: str
    before: tuple[Record, Record | None]
    after: tuple[Record, Record] | None
    missing: str | None = None


def time_changes(runs: Sequence[ComparedRun], margin: float = MARGIN) -> list[TimeChange]:
    """Every ratio the baseline run recorded, in every other run whose cell ended ok.

    Args:
        runs: the baseline first.
        margin: a share; a cell that takes so much longer is a regression.

    Returns:
        The worst first.
    """
    pairs = [pair for other in runs[1:] for pair in _pairs(runs[0], other)]
    confidence = joint_confidence(sum(pair.after is not None for pair in pairs))
    order = ("regression", "cannot tell", "slower", "faster", "same")
    changes = [_change(pair, runs[0].names[pair.before[0].cell], margin, confidence) for pair in pairs]
    return sorted(changes, key=lambda change: (order.index(change.verdict), -(change.time_ratio or math.inf)))


def joint_confidence(ratios: int) -> float:
    """Of each interval, for 95 % jointly, however many ratios a comparison holds."""
    return 1 - 0.05 / max(1, ratios)


def absolute_times(runs: Sequence[ComparedRun]) -> dict[str, list[float | None]]:
    """Cell name → its median milliseconds in each run, for cells timed in the baseline run."""
    return {
        runs[0].names[cell]: [getattr(run.records.get(cell), "ms_p50", None) for run in runs]
        for cell, record in runs[0].records.items()
        if record.ms_p50 is not None
    }


def judge(
    time_ratio: float,
    low: float | None,
    high: float | None,
    margin: float,
    repeats: int,
    confidence: float = 0.95,
    *,
    reached: float = 1.0,
) -> tuple[Verdict, str | None]:
    """What an interval allows to say.

    Args:
        time_ratio: 1.1 takes 10 % longer.
        low: of its interval, None where there is none.
        high: the same.
        margin: a share.
        repeats: of the side with fewer.
        confidence: that was asked of the interval.
        reached: of the interval; where less, it makes a regression only where all of it lies beyond the margin.

    Returns:
        The verdict, and for "cannot tell" how many repeats would tell, or that no sensible number would; for others
        None, or that the interval holds alone.
    """
    enough, alone = repeats_that_tell(confidence), reached < confidence
    if low is None or high is None:
        return "cannot tell", f"{repeats} repeats, an interval needs {enough}"
    note = f"interval of this ratio alone, all together need {enough} repeats" if alone else None
    if low > 1:
        if time_ratio <= 1 + margin:
            return "slower", note
        if alone and low <= 1 + margin:
            wider = _normal_quantile(confidence) / _normal_quantile(reached)
            needed = max(enough, _repeats_needed(repeats, wider * math.log(high / low) / 2, math.log(time_ratio)))
            return "cannot tell", f"worse by {margin * 100:g} % for this ratio alone; about {needed} repeats would tell"
        return "regression", note
    if high < 1:
        return "faster", note
    if high <= 1 + margin:
        return "same", note
    needed = _repeats_needed(repeats, math.log(high / low) / 2, math.log(max(time_ratio, 1 + margin)))
    would = f"about {needed} repeats would tell" if needed <= 10 * repeats else "the runs are too noisy"
    return "cannot tell", f"the interval holds 1 and {1 + margin:g}; {would}"


def _repeats_needed(repeats: int, half_width: float, wanted: float) -> int:
    """With which half of an interval on logarithms would be `wanted` wide; always more than there are."""
    return math.ceil(repeats * max(half_width / wanted, 1.1) ** 2)


def _normal_quantile(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _pairs(baseline: ComparedRun, other: ComparedRun) -> Iterator[_Pair]:
    for cell in shared_cells(baseline, other):
        before, after = baseline.records[cell], other.records[cell]
        if before.status != "ok" or after.status != "ok":
            continue
        for ratio in RATIOS:
            if getattr(before, ratio) is not None:
                yield _pair(ratio, before, after, baseline, other)


def _pair(ratio: str, before: Record, after: Record, baseline: ComparedRun, other: ComparedRun) -> _Pair:
    against = _in_run_baseline(before, ratio, baseline.group(before))
    if against is None:
        return _Pair(other.name, ratio, (before, None), None, f"no samples of its in-run baseline in {baseline.name}")
    there = other.records.get(against.cell)
    if there is None or getattr(after, ratio) is None or not _paired(after, there):
        missing = f"no {ratio} against {_side(against)} in {other.name}"
        return _Pair(other.name, ratio, (before, against), None, missing)
    return _Pair(other.name, ratio, (before, against), (after, there))


def _in_run_baseline(record: Record, ratio: str, group: Sequence[Record]) -> Record | None:
    """The record whose samples the recorded speed-up was made from."""
    if ratio == "speedup_vs_reference":
        found = [
            other
            for other in group
            if other.backend == "reference"
            and (other.method, other.method_config) == (record.method, record.method_config)
        ]
    else:
        method = (record.baseline or "").split("/")[0]
        found = [other for other in group if (other.method, other.backend) == (method, "torch")]
    found = [other for other in found if _paired(record, other)]
    return min(found, key=_median, default=None)


def _paired(record: Record, against: Record) -> bool:
    """Whether the samples were taken in turns; a pass that was not is in neither list."""
    times = record.samples_ms or []
    return against.status == "ok" and len(times) == len(against.samples_ms or []) > 0


def _change(pair: _Pair, name: str, margin: float, confidence: float) -> TimeChange:
    record, against = pair.before
    side = "–" if against is None else _side(against)
    known: dict[str, Any] = {"run": pair.run, "cell": record.cell, "name": name, "ratio": pair.ratio}
    known |= {"against": side, "before": getattr(record, pair.ratio)}
    if against is None or pair.after is None:
        unknown: dict[str, Any] = dict.fromkeys(("after", "time_ratio", "ci_low", "ci_high", "in_run_baseline_ratio"))
        repeats = (len(record.samples_ms or []), 0)
        return TimeChange(**known, **unknown, repeats=repeats, verdict="cannot tell", undecided=True, why=pair.missing)
    there, here = _relative_times(record, against), _relative_times(*pair.after)
    repeats = len(there), len(here)
    reached = reached_confidence(*repeats)
    level = reached if ALONE <= reached < confidence else confidence
    time_ratio, low, high = ratio_change(there, here, level)
    verdict, why = judge(time_ratio, low, high, margin, min(repeats), confidence, reached=level)
    own_low = ratio_change(there, here, ALONE)[1]
    moved = _median(pair.after[1]) / _median(against)
    if not 1 / MOVED <= moved <= MOVED:
        verdict, why = "cannot tell", f"{side} itself takes {moved:.2f} times as long: measure both again"
    return TimeChange(
        **known,
        after=_median(pair.after[1]) / _median(pair.after[0]),
        time_ratio=time_ratio,
        ci_low=low,
        ci_high=high,
        repeats=repeats,
        in_run_baseline_ratio=moved,
        verdict=verdict,
        undecided=verdict == "cannot tell" and time_ratio > 1 + margin and (own_low is None or own_low > 1),
        why=why,
    )


def _side(record: Record) -> str:
    return f"{record.method}/{record.backend}"


def _median(record: Record) -> float:
    return percentile(record.samples_ms or [], 50)


def _relative_times(record: Record, against: Record) -> list[float]:
    """The cell's time over the in-run baseline's, repeat by repeat."""
    return [a / b for a, b in zip(record.samples_ms or [], against.samples_ms or [], strict=True)]
