"""Scores of stored predictions, and whether two folders of them differ."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from pcbench.differences import Difference, average_difference, paired_difference
from pcbench.errors import ConfigError, DataMissing, unknown_name
from pcbench.registry import SCORERS, described, load
from pcbench.tasks.scorecards.benchmarks import BENCHMARKS, Benchmark
from pcbench.tasks.scorecards.predictions import Folder, Prediction, SkippedLine, read_folder
from pcbench.tasks.scorecards.runs import RUN
from pcbench.tasks.scorers import Metric, Scorer
from pcbench.tasks.thoughts import RULE, without_thoughts

__all__ = ["scorecards"]

# a line of so few weighs more than 5 points of its dataset's score
FEW = 20
# (dataset, metric function) → line → 0…1, and line → why it has no score
Known = dict[tuple[str, Callable[..., float]], tuple[dict[int, float], dict[int, str]]]


@dataclass(frozen=True)
class Scored:
    """A folder under one scorer.

    Args:
        values: dataset → line → 0…1.
        skipped: dataset → why it has no score.
        skipped_lines: lines without a score.
    """

    folder: Folder
    values: dict[str, dict[int, float]]
    skipped: dict[str, str]
    skipped_lines: list[SkippedLine]


def scorecards(
    path: Path,
    benchmark: str,
    scorer: str | None = None,
    against: Path | None = None,
    *,
    method: str | None = None,
    against_method: str | None = None,
    keep_thoughts: bool = False,
    say: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Scores every prediction file of a folder, or the answers of a run.

    Args:
        path: the folder, or one file where the benchmark is one dataset.
        benchmark: a name of `BENCHMARKS`.
        scorer: a scorer's id, "all" for every one that has rules for the benchmark, None for the benchmark's own.
        against: a folder whose scores are subtracted, record by record; None with `against_method` is `path`.
        method, against_method: whose predictions, in a folder with those of several methods and in a run.
        keep_thoughts: scores all of a prediction, also what a model thought before its answer.
        say: told which scorers of "all" cannot be used, as those of other packages; None raises that.

    Returns:
        One JSON-ready card a scorer; scores and differences × 100, two decimals.

    Raises:
        ConfigError: there is no such benchmark or scorer.
        DataMissing: nothing could be scored, or the folders share nothing.
    """
    if benchmark not in BENCHMARKS:
        raise unknown_name("--benchmark", "benchmark", benchmark, BENCHMARKS)
    layout = BENCHMARKS[benchmark]
    chosen = _chosen(benchmark, layout, scorer, say)
    if against is None and against_method is not None:
        against = path
    folders = [
        _read(folder, benchmark, whose, keep_thoughts)
        for folder, whose in ((path, method), (against, against_method))
        if folder is not None
    ]
    scored = _scored(folders, layout, chosen, say if scorer == "all" else None)
    if not any(one.values for one, *_ in scored.values()):
        name, (one, *_) = next(iter(scored.items()))
        first = next(iter(one.skipped.items()))
        raise DataMissing(f"{path}: a dataset that {name} can score, got none; {first[0]}: {first[1]}")
    cards = [_card(benchmark, layout, name, chosen[name].version, one) for name, (one, *_) in scored.items()]
    if against is not None:
        for card, (one, other) in zip(cards, scored.values(), strict=True):
            card["difference"] = _difference(layout, one, other)
        if not any(card["difference"]["datasets"] for card in cards):
            raise DataMissing(f"--against: a dataset that {path} has too, with the same answers, got none in {against}")
    return cards


def _read(path: Path, benchmark: str, method: str | None, keep_thoughts: bool) -> Folder:
    """The predictions of a folder, without what was thought before them unless that is kept."""
    folder = read_folder(path, benchmark, BENCHMARKS[benchmark], method)
    for dataset, predictions in folder.datasets.items() if not keep_thoughts else ():
        answers = [replace(one, text=without_thoughts(one.text)) for one in predictions]
        if cut := sum(a.text != p.text for a, p in zip(answers, predictions, strict=True)):
            folder.thoughts[dataset] = cut
        folder.datasets[dataset] = answers
    return folder


def _chosen(
    benchmark: str, layout: Benchmark, scorer: str | None, say: Callable[[str], None] | None
) -> dict[str, Scorer]:
    """Scorers by the names they were asked for."""

    def serves(one: Scorer) -> bool:
        shared = one.benchmark is None and not set(layout.datasets).isdisjoint(one.metrics)
        return one.benchmark == benchmark or shared

    def every() -> dict[str, Scorer]:
        found = described(SCORERS, lambda name: load(SCORERS, "scorer", name, "--scorer"), say)
        return {name: one for name, one in found.items() if serves(one)}

    if scorer == "all":
        return every()
    name = layout.scorer if scorer is None else scorer
    asked: Scorer = load(SCORERS, "scorer", name, "--scorer")
    if not serves(asked):
        known = ", ".join(sorted(every()))
        raise ConfigError(f"--scorer: one with rules for {benchmark}, got {scorer}; known: {known}")
    return {name: asked}


def _scored(
    folders: Sequence[Folder], layout: Benchmark, scorers: Mapping[str, Scorer], say: Callable[[str], None] | None
) -> dict[str, list[Scored]]:
    """Scorer → every folder under it; a metric that scorers share runs once a folder."""
    known: list[Known] = [{} for _ in folders]

    def by(name: str) -> list[Scored]:
        return [_scored_by(scorers[name], each, layout, had) for each, had in zip(folders, known, strict=True)]

    return described(scorers, by, say)


def _scored_by(scorer: Scorer, folder: Folder, layout: Benchmark, known: Known) -> Scored:
    done = Scored(folder, {}, dict(folder.skipped), list(folder.skipped_lines))
    for dataset, predictions in folder.datasets.items():
        metric = scorer.metric(dataset)
        reason = f"{scorer.id} has no rule for it" if metric is None else metric.why_not()
        if metric is None or reason:
            done.skipped[dataset] = reason
            continue
        key = dataset, metric.function
        if key not in known:
            known[key] = _line_scores(metric, predictions)
        values, refused = known[key]
        done.skipped_lines.extend(SkippedLine(folder.files[dataset], line, why) for line, why in refused.items())
        if values:
            done.values[dataset] = values
        else:
            done.skipped[dataset] = "no line could be scored"
    return done


def _line_scores(metric: Metric, predictions: Sequence[Prediction]) -> tuple[dict[int, float], dict[int, str]]:
    values, refused = {}, {}
    for one in predictions:
        try:
            values[one.line] = metric(one.text, one.answers, one.classes)
        except ValueError as error:
            refused[one.line] = str(error)
    return values, refused


def _card(benchmark: str, layout: Benchmark, scorer: str, version: int, scored: Scored) -> dict[str, Any]:
    means = {dataset: 100 * fmean(values.values()) for dataset, values in scored.values.items()}
    averaged = [dataset for dataset in layout.averaged if dataset in means]
    return {
        "benchmark": benchmark,
        "scorer": scorer,
        "scorer_version": version,
        "datasets": {dataset: round(mean, 2) for dataset, mean in means.items()},
        "average": round(fmean(means[dataset] for dataset in averaged), 2) if averaged else None,
        "average_over": averaged,
        "n": {dataset: len(values) for dataset, values in scored.values.items()},
        **_groups(layout, scored),
        **_thoughts(scored.folder),
        "few": {dataset: len(scored.values[dataset]) for dataset in averaged if len(scored.values[dataset]) < FEW},
        "repeated_lines": scored.folder.repeated,
        "skipped": scored.skipped,
        "skipped_lines": [asdict(line) for line in scored.skipped_lines],
    }


def _groups(layout: Benchmark, scored: Scored) -> dict[str, Any]:
    """Scores of the benchmark's groups of records, their sizes and their averages over datasets; nothing without."""
    taken: dict[str, dict[str, list[float]]] = {}
    for dataset, values in scored.values.items():
        of = [(values[p.line], p.groups) for p in scored.folder.datasets[dataset] if p.line in values]
        groups = {name: [value for value, has in of if name in has] for name in layout.group_names}
        taken[dataset] = {name: found for name, found in groups.items() if found}
    if not any(taken.values()):
        return {}
    means = {dataset: {name: 100 * fmean(found) for name, found in of.items()} for dataset, of in taken.items()}
    by_group = {
        name: [means[d][name] for d in layout.averaged if name in means.get(d, {})] for name in layout.group_names
    }
    return {
        "groups": {dataset: {name: round(mean, 2) for name, mean in of.items()} for dataset, of in means.items()},
        "group_n": {dataset: {name: len(found) for name, found in of.items()} for dataset, of in taken.items()},
        "group_average": {name: round(fmean(found), 2) for name, found in by_group.items() if found},
    }


def _thoughts(folder: Folder) -> dict[str, Any]:
    """By which rule predictions were cut, and how many; nothing where none was."""
    return {"answer_rule": RULE, "thoughts": folder.thoughts} if folder.thoughts else {}


def _difference(layout: Benchmark, one: Scored, other: Scored) -> dict[str, Any]:
    """One minus the other over the lines that both have scored."""
    pairs: dict[str, tuple[list[float], list[float]]] = {}
    unpaired: dict[str, list[SkippedLine]] = {}
    skipped = {name: "only in the other folder" for name in other.values if name not in one.values}
    for dataset, values in one.values.items():
        if dataset not in other.values:
            skipped[dataset] = other.skipped.get(dataset, "not in the other folder")
            continue
        mine, theirs = _by_record(one.folder, other.folder, dataset)
        if reason := _why_no_pairs(one.folder, other.folder, dataset, mine, theirs):
            skipped[dataset] = reason
            continue
        ours = {key: values[p.line] for key, p in mine.items() if p.line in values}
        against = {key: other.values[dataset][p.line] for key, p in theirs.items() if p.line in other.values[dataset]}
        if shared := [key for key in ours if key in against]:
            pairs[dataset] = [ours[key] for key in shared], [against[key] for key in shared]
            lines = {mine[key].line: "the other" for key in ours.keys() - against.keys()}
            lines |= {theirs[key].line: "this" for key in against.keys() - ours.keys()}
            unpaired[dataset] = [
                SkippedLine(one.folder.files[dataset], n, f"no score in {lines[n]} folder") for n in sorted(lines)
            ]
        else:
            skipped[dataset] = "no line that both have"
    averaged = [dataset for dataset in layout.averaged if dataset in pairs]
    whole = _shown(average_difference({name: pairs[name] for name in averaged})) if averaged else None
    return {
        **_fields("average", whole),
        "average_over": averaged,
        "datasets": {name: _fields("difference", _shown(paired_difference(*both))) for name, both in pairs.items()},
        "n": {dataset: len(both[0]) for dataset, both in pairs.items()},
        "unpaired": {dataset: len(lines) for dataset, lines in unpaired.items() if lines},
        "unpaired_lines": [asdict(line) for lines in unpaired.values() for line in lines],
        **_thoughts(other.folder),
        "repeated_lines": other.folder.repeated,
        "skipped": skipped,
        "skipped_lines": [asdict(line) for line in other.skipped_lines],
    }


def _by_record(one: Folder, other: Folder, dataset: str) -> tuple[dict[Any, Prediction], dict[Any, Prediction]]:
    """The predictions of both folders by id where every line has one, else by number of line."""
    both = one.datasets[dataset], other.datasets[dataset]
    named = all(p.id is not None for side in both for p in side)
    mine, theirs = ({p.id if named else p.line: p for p in side} for side in both)
    return mine, theirs


def _why_no_pairs(
    one: Folder, other: Folder, dataset: str, mine: Mapping[Any, Prediction], theirs: Mapping[Any, Prediction]
) -> str | None:
    """Why the lines of two folders are not answers to the same records; None where they may be."""
    by_line = all(isinstance(key, int) for key in mine)
    if by_line and RUN in (one.files[dataset], other.files[dataset]):
        return "answers of a run are paired by id, and not every line of the other folder has one"
    if by_line and (dataset in one.repeated or dataset in other.repeated):
        return "lines repeat ids, and not every line has one to be paired by"
    for key, p in mine.items():
        if key in theirs and theirs[key].answers != p.answers:
            return f"the answers of {'line' if by_line else 'id'} {key} differ"
    return None


def _shown(found: Difference) -> Difference:
    """× 100 as it is shown, so that the words fit the figures; no minus in front of 0."""
    mean, low, high = (None if x is None else round(100 * x, 2) + 0.0 for x in found[:3])
    return Difference(mean or 0.0, low, high, None if found.p is None else round(found.p, 4), found.n)


def _fields(name: str, found: Difference | None) -> dict[str, float | str | None]:
    if found is None:
        return {name: None, "ci_low": None, "ci_high": None, "words": None}
    shown = {name: found.mean, "ci_low": found.low, "ci_high": found.high, "words": found.words()}
    return shown if found.p is None else {**shown, "mcnemar_p": found.p}
