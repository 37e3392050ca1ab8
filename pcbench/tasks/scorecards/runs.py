"""Answers of a run of ours, as they stand in samples.jsonl, to be scored again."""

from collections.abc import Iterable
from pathlib import Path

from pcbench.errors import ConfigError, DataMissing
from pcbench.records import read_run
from pcbench.suites.labels import labels
from pcbench.tasks.scorecards.benchmarks import Benchmark
from pcbench.types import Record, Sample, weighed

__all__ = ["RUN", "read_samples"]

RUN = "samples.jsonl"


def read_samples(
    path: Path, name: str, benchmark: Benchmark, method: str | None
) -> dict[str, list[tuple[int, Sample]]]:
    """Dataset → the answers of one method, each with the number of its line.

    Args:
        path: the run's folder, or its samples.jsonl.
        name: the benchmark's, for messages.
        benchmark: whose tasks count.
        method: a method, a label as the report has it, or `<label> at <n> tokens`; None where only one fits.

    Raises:
        ConfigError: cells of several methods, configs or lengths could be meant, or none is.
        DataMissing: the folder holds no run, or no answers of the benchmark.
    """
    _, records, samples = read_run(path.parent if path.name == RUN else path)
    known = {record.cell: record for record in records}
    taken = [
        (number, dataset, sample)
        for number, sample in enumerate(samples, start=1)
        if sample.cell in known and (dataset := _dataset(sample.task, benchmark))
    ]
    if not taken:
        tasks = ", ".join(sorted({sample.task for sample in samples})) or "none"
        raise DataMissing(f"{path}: answers to tasks of {name}, got answers to {tasks}; see --benchmark")
    cells = list({sample.cell: known[sample.cell] for _, _, sample in taken}.values())
    chosen = _chosen(path, cells, method)
    found: dict[str, list[tuple[int, Sample]]] = {}
    for number, dataset, sample in taken:
        if sample.cell in chosen:
            found.setdefault(dataset, []).append((number, sample))
    return {dataset: found[dataset] for dataset in benchmark.datasets if dataset in found}


def _dataset(task: str, benchmark: Benchmark) -> str | None:
    name = task.partition("@")[0]
    plain = (name.removeprefix(prefix) for prefix in benchmark.tasks if name.startswith(prefix))
    return next((dataset for dataset in plain if dataset in benchmark.datasets), None)


def _chosen(path: Path, cells: list[Record], method: str | None) -> set[str]:
    """The cells of one method, config, backend and length."""
    labelled = [(record, weighed(label, record.quantize)) for record, label in zip(cells, labels(cells), strict=True)]
    names = {
        record.cell: {record.method, label, f"{label} at {record.context_tokens} tokens"} for record, label in labelled
    }
    fit = [(record, label) for record, label in labelled if method is None or method in names[record.cell]]
    known = {(label, record.context_tokens) for record, label in fit or labelled}
    if fit and len(known) == 1:
        return {record.cell for record, _ in fit}
    got = f"nothing of {method}" if not fit else "several" if method is None else f"several of {method}"
    raise ConfigError(f"--method: one of {_listed(known)} in {path}, got {got}; name one of them")


def _listed(known: Iterable[tuple[str, int | None]]) -> str:
    """By their labels, where several lengths were read with the length."""
    pairs = sorted(known, key=str)
    one_length = len({tokens for _, tokens in pairs}) == 1
    return ", ".join(f'"{label}"' if one_length else f'"{label} at {tokens} tokens"' for label, tokens in pairs)
