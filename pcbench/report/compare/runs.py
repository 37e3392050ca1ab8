"""The runs of a comparison: read, and refused where they did not measure the same thing."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from pcbench.errors import ConfigError, DataMissing
from pcbench.records import read_run
from pcbench.suites.labels import labels
from pcbench.tasks.thoughts import without_thoughts
from pcbench.types import Record, Sample, placed, weighed

__all__ = ["ComparedRun", "read_compared", "shared_cells"]

# what makes runs incomparable as wholes, in the order it is named
WHOLE = (
    "suite",
    "kind",
    "model",
    "dtype",
    "quantize",
    "device",
    "seed",
    "workload",
    "context_tokens",
    "method",
    "backend",
)
# what makes one cell incomparable; null where it was not scored or no engine was asked
PER_CELL = {
    "task": "task and version",
    "prompts": "prompt texts",
    "scorer": "scorer",
    "score_name": "score",
    "served_model": "serving engine's model",
}


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison.

    Args:
        name: its folder, unique in a comparison.
        manifest: manifest.json.
        records: cell → record.
        samples: cell → prompt id → the last sample.
    """

    name: str
    manifest: dict[str, Any]
    records: dict[str, Record]
    samples: dict[str, dict[str, Sample]]

    @cached_property
    def names(self) -> dict[str, str]:
        """Cell → `ParallelComp on passkey, 8,192 tokens`."""
        records = list(self.records.values())
        return {
            r.cell: placed(weighed(label, r.quantize), r.workload, r.context_tokens)
            for r, label in zip(records, labels(records), strict=True)
        }

    def group(self, record: Record) -> list[Record]:
        """The records that were measured interleaved with `record`, itself included."""
        return [other for other in self.records.values() if other.group == record.group]


def read_compared(paths: Sequence[Path]) -> list[ComparedRun]:
    """The runs of folders, the first one the baseline; every other one shares cells with it.

    Raises:
        ConfigError: fewer than two runs, one twice, or runs that did not measure the same thing; says which thing.
        DataMissing: a folder without a run, or a run without a record.
    """
    if len(paths) < 2:
        raise ConfigError(f"compare: two runs or more, got {len(paths)}; give their folders, the baseline first")
    places = [Path(os.path.realpath(path)) for path in paths]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise ConfigError(f"compare: every run once, got {path} twice; remove one")
    short = [place.name for place in places]
    names = [name if short.count(name) == 1 else str(path) for name, path in zip(short, paths, strict=True)]
    runs = [_read(name, path) for name, path in zip(names, paths, strict=True)]
    for other in runs[1:]:
        _check(runs[0], other)
    return runs


def shared_cells(baseline: ComparedRun, other: ComparedRun) -> list[str]:
    """The cells both runs hold a record of, in the order of the baseline."""
    return [cell for cell in baseline.records if cell in other.records]


def _read(name: str, path: Path) -> ComparedRun:
    manifest, read, answered = read_run(path)
    records = {record.cell: record for record in read}
    if not records:
        raise DataMissing(f"{path}: a run with records, got none; finish it with pcbench run … --out {path} --resume")
    samples: dict[str, dict[str, Sample]] = {}
    for sample in answered:
        samples.setdefault(sample.cell, {})[sample.id] = sample
    return ComparedRun(name, manifest, records, samples)


def _check(baseline: ComparedRun, other: ComparedRun) -> None:
    """Raises ConfigError for the first thing the runs do not share."""
    cells = shared_cells(baseline, other)
    if not cells:
        for field in WHOLE:
            values = [{getattr(record, field) for record in run.records.values()} for run in (baseline, other)]
            if values[0].isdisjoint(values[1]):
                _refuse(f"the same {field}", [_listed(side) for side in values], baseline, other)
        compiled = [any(x.compile_ms is not None for x in run.records.values()) for run in (baseline, other)]
        if compiled[0] != compiled[1]:
            _refuse("the same suite.compile", [str(one).lower() for one in compiled], baseline, other)
        _refuse("cells in common", ["others", "others"], baseline, other)
    for cell in cells:
        before, after = baseline.records[cell], other.records[cell]
        for field, what in PER_CELL.items():
            a, b = getattr(before, field), getattr(after, field)
            if a is not None and b is not None and a != b:
                _refuse(f"the same {what} of {baseline.names[cell]}", [a, b], baseline, other)
        _check_ranks(before, baseline, other)
        _check_prompts(cell, baseline, other)


def _check_ranks(record: Record, baseline: ComparedRun, other: ComparedRun) -> None:
    """Ranks that share the chunks of a prompt are part of what its time says."""
    if record.method_config.get("ranks") != "chunks":
        return
    numbers = [run.manifest.get("environment", {}).get("ranks", "no number") for run in (baseline, other)]
    if numbers[0] != numbers[1]:
        what = f"the same number of ranks for {baseline.names[record.cell]}"
        _refuse(what, numbers, baseline, other, "measure both with as many")


def _check_prompts(cell: str, baseline: ComparedRun, other: ComparedRun) -> None:
    before, after = baseline.samples.get(cell, {}), other.samples.get(cell, {})
    if not before or not after:
        return
    what = f"the same prompts of {baseline.names[cell]}"
    common = before.keys() & after.keys()
    if not common:
        _refuse(what, [_listed(set(side)) for side in (before, after)], baseline, other)
    for prompt in sorted(common):
        digests = [side[prompt].prompt_sha256 for side in (before, after)]
        if digests[0] != digests[1]:
            _refuse(f"{what}, {prompt}", [f"sha256 {digest[:12]}…" for digest in digests], baseline, other)
    _check_answer_rules(cell, sorted(common), baseline, other)


def _check_answer_rules(cell: str, prompts: Sequence[str], baseline: ComparedRun, other: ComparedRun) -> None:
    """Scores of answers with their thoughts are held against no scores of answers without."""
    sides = [{r: p for p in prompts if (r := _answer_rule(run.samples[cell][p]))} for run in (baseline, other)]
    if sides[0] and sides[1] and sides[0].keys() != sides[1].keys():
        what = f"the same answer_rule of {baseline.names[cell]}"
        got = [", ".join(f"{rule} ({prompt})" for rule, prompt in side.items()) for side in sides]
        _refuse(what, got, baseline, other, "measure both with one suite.thinking")


def _answer_rule(sample: Sample) -> str | None:
    """By what its thought was scored or cut; None where it has none, which every rule scores alike."""
    if sample.answer_rule or sample.score is None:
        return sample.answer_rule
    return "none, thoughts scored" if without_thoughts(sample.prediction) != sample.prediction else None


def _refuse(
    what: str,
    got: Sequence[object],
    baseline: ComparedRun,
    other: ComparedRun,
    remedy: str = "compare runs of one suite and data",
) -> NoReturn:
    raise ConfigError(f"compare: {what}, got {got[0]} in {baseline.name} and {got[1]} in {other.name}; {remedy}")


def _listed(values: set[Any]) -> str:
    return ", ".join(sorted(map(str, values))[:5]) + ("…" if len(values) > 5 else "")
