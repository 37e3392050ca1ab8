"""Scores of stored predictions, and whether two folders of them differ."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from pcbench.errors import ConfigError, DataMissing, unknown_name
from pcbench.registry import SCORERS, load
from pcbench.statistics import MIN_PAIRS, Difference, mcnemar, mean_intervals
from pcbench.tasks.benchmarks import BENCHMARKS, Benchmark
from pcbench.tasks.predictions import Folder, Prediction, SkippedLine, read_folder
from pcbench.tasks.scorers import Metric, Scorer
from pcbench.tasks.thoughts import RULE, without_thoughts

__all__ = ["scorecards"]

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
    path: Path, benchmark: str, scorer: str | None = None, against: Path | None = None, *, keep_thoughts: bool = False
) -> list[dict[str, Any]]:
    """Scores every prediction file of a folder.

    Args:
        path: the folder.
        benchmark: a name of `BENCHMARKS`.
        scorer: a scorer's id, "all" for every one that has rules for the benchmark, None for the benchmark's own.
        against: a folder whose scores are subtracted, line by line.
        keep_thoughts: scores all of a prediction, also what a model thought before its answer.

    Returns:
        One JSON-ready card a scorer; scores and differences × 100, two decimals.

    Raises:
        ConfigError: there is no such benchmark or scorer.
        DataMissing: nothing could be scored, or the folders share nothing.
    """
    if benchmark not in BENCHMARKS:
        raise unknown_name("--benchmark", "benchmark", benchmark, BENCHMARKS)
    layout = BENCHMARKS[benchmark]
    chosen = _chosen(benchmark, layout, scorer)
    scored = _scored(_read(path, benchmark, keep_thoughts), layout, chosen)
    if not any(one.values for one in scored):
        first = next(iter(scored[0].skipped.items()))
        raise DataMissing(f"{path}: a dataset that {chosen[0].id} can score, got none; {first[0]}: {first[1]}")
    cards = [_card(benchmark, layout, each, one) for each, one in zip(chosen, scored, strict=True)]
    if against is not None:
        others = _scored(_read(against, benchmark, keep_thoughts), layout, chosen)
        for card, one, other in zip(cards, scored, others, strict=True):
            card["difference"] = _difference(layout, one, other)
        if not any(card["difference"]["datasets"] for card in cards):
            raise DataMissing(f"--against: a dataset that {path} has too, with the same answers, got none in {against}")
    return cards


def _read(path: Path, benchmark: str, keep_thoughts: bool) -> Folder:
    """The predictions of a folder, without what was thought before them unless that is kept."""
    folder = read_folder(path, benchmark, BENCHMARKS[benchmark])
    for dataset, predictions in folder.datasets.items() if not keep_thoughts else ():
        answers = [replace(one, text=without_thoughts(one.text)) for one in predictions]
        if cut := sum(a.text != p.text for a, p in zip(answers, predictions, strict=True)):
            folder.thoughts[dataset] = cut
        folder.datasets[dataset] = answers
    return folder


def _chosen(benchmark: str, layout: Benchmark, scorer: str | None) -> list[Scorer]:
    every: list[Scorer] = [load(SCORERS, "scorer", name, "--scorer") for name in SCORERS]
    serving = [one for one in every if not set(layout.datasets).isdisjoint(one.metrics)]
    if scorer == "all":
        return serving
    asked: Scorer = load(SCORERS, "scorer", layout.scorer if scorer is None else scorer, "--scorer")
    if asked not in serving:
        known = ", ".join(sorted(one.id for one in serving))
        raise ConfigError(f"--scorer: one with rules for {benchmark}, got {scorer}; known: {known}")
    return [asked]


def _scored(folder: Folder, layout: Benchmark, scorers: Sequence[Scorer]) -> list[Scored]:
    """The folder under every scorer; a metric that scorers share runs once."""
    known: Known = {}
    return [_scored_by(scorer, folder, layout, known) for scorer in scorers]


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
        done.skipped_lines.extend(SkippedLine(layout.file(dataset), line, why) for line, why in refused.items())
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


def _card(benchmark: str, layout: Benchmark, scorer: Scorer, scored: Scored) -> dict[str, Any]:
    means = {dataset: 100 * fmean(values.values()) for dataset, values in scored.values.items()}
    averaged = [dataset for dataset in layout.averaged if dataset in means]
    return {
        "benchmark": benchmark,
        "scorer": scorer.id,
        "scorer_version": scorer.version,
        "datasets": {dataset: round(mean, 2) for dataset, mean in means.items()},
        "average": round(fmean(means[dataset] for dataset in averaged), 2) if averaged else None,
        "average_over": averaged,
        "n": {dataset: len(values) for dataset, values in scored.values.items()},
        **_thoughts(scored.folder),
        "skipped": scored.skipped,
        "skipped_lines": [asdict(line) for line in scored.skipped_lines],
    }


def _thoughts(folder: Folder) -> dict[str, Any]:
    """By which rule predictions were cut, and how many; nothing where none was."""
    return {"answer_rule": RULE, "thoughts": folder.thoughts} if folder.thoughts else {}


def _difference(layout: Benchmark, one: Scored, other: Scored) -> dict[str, Any]:
    """One minus the other over the lines that both have scored."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    unpaired: dict[str, list[SkippedLine]] = {}
    skipped = {name: "only in the other folder" for name in other.values if name not in one.values}
    for dataset, values in one.values.items():
        against = other.values.get(dataset)
        line = _first_unequal(one.folder, other.folder, dataset)
        if against is None:
            skipped[dataset] = other.skipped.get(dataset, "not in the other folder")
        elif line is not None:
            skipped[dataset] = f"the answers of line {line} differ"
        elif shared := sorted(values.keys() & against.keys()):
            pairs[dataset] = [(values[line], against[line]) for line in shared]
            unpaired[dataset] = _without_partner(layout.file(dataset), values, against)
        else:
            skipped[dataset] = "no line that both have"
    averaged = [dataset for dataset in layout.averaged if dataset in pairs]
    whole, each = _judged(pairs, averaged)
    return {
        **_fields("average", whole),
        "average_over": averaged,
        "datasets": {dataset: _fields("difference", found) for dataset, found in each.items()},
        "n": {dataset: len(both) for dataset, both in pairs.items()},
        "unpaired": {dataset: len(lines) for dataset, lines in unpaired.items() if lines},
        "unpaired_lines": [asdict(line) for lines in unpaired.values() for line in lines],
        **_thoughts(other.folder),
        "skipped": skipped,
        "skipped_lines": [asdict(line) for line in other.skipped_lines],
    }


def _without_partner(file: str, mine: Mapping[int, float], theirs: Mapping[int, float]) -> list[SkippedLine]:
    """The lines that only one of two folders has scored."""
    return [
        SkippedLine(file, line, f"no score in {'the other' if line in mine else 'this'} folder")
        for line in sorted(mine.keys() ^ theirs.keys())
    ]


def _judged(
    pairs: Mapping[str, Sequence[tuple[float, float]]], averaged: Sequence[str]
) -> tuple[Difference | None, dict[str, Difference]]:
    """× 100: the plain mean of the differences of some datasets, and that of each."""
    whole, each = mean_intervals({name: [100 * (a - b) for a, b in both] for name, both in pairs.items()}, averaged)
    over = [pairs[name] for name in averaged]
    return whole and _tested(whole, over), {name: _tested(each[name], [both]) for name, both in pairs.items()}


def _tested(interval: tuple[float, float, float], over: Sequence[Sequence[tuple[float, float]]]) -> Difference:
    """As shown: the interval where every dataset has pairs enough for one, McNemar's p where all scores are 0 or 1."""
    # + 0.0: no minus in front of 0
    mean, low, high = (round(x, 2) + 0.0 for x in interval)
    ours, theirs = zip(*(pair for both in over for pair in both), strict=True)
    p = round(mcnemar(ours, theirs), 4) if {*ours, *theirs} <= {0, 1} else None
    if min(map(len, over)) < MIN_PAIRS:
        return Difference(mean, None, None, p)
    return Difference(mean, low, high, p)


def _first_unequal(one: Folder, other: Folder, dataset: str) -> int | None:
    against = {prediction.line: prediction.answers for prediction in other.datasets.get(dataset, [])}
    return next((p.line for p in one.datasets[dataset] if against.get(p.line, p.answers) != p.answers), None)


def _fields(name: str, found: Difference | None) -> dict[str, float | str | None]:
    if found is None:
        return {name: None, "ci_low": None, "ci_high": None, "words": None}
    shown = {name: found.mean, "ci_low": found.low, "ci_high": found.high, "words": found.words()}
    return shown if found.p is None else {**shown, "mcnemar_p": found.p}
