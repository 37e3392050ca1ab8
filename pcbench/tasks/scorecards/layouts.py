"""Where predictions lie: a file for each dataset, a folder for each dataset with a file for each method, one file."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from pcbench.errors import ConfigError, DataMissing
from pcbench.tasks.scorecards.benchmarks import Benchmark

__all__ = ["Found", "find_predictions"]

# how lm-evaluation-harness calls the lines of a task
SAMPLES = re.compile(r"samples_(?P<task>.+)_\d{4}-\d\d-\d\dT[-0-9.]+")
# RULER's predictions in parts
PART = re.compile(r"(?P<dataset>.+)-\d+")
# scores that KVCache-Factory writes beside predictions
NO_PREDICTIONS = ("metrics",)


@dataclass
class Found:
    """The files of predictions under a path.

    Args:
        files: dataset → its file, in the benchmark's order.
        skipped: what is left out → why.
    """

    files: dict[str, Path] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def find_predictions(path: Path, name: str, benchmark: Benchmark, method: str | None) -> Found:
    """The files of predictions of a benchmark.

    Layouts: `<dataset>.jsonl` (LongBench, RULER; `preds_<task>.jsonl` of InfiniteBench), `samples_<task>_<time>.jsonl`
    of lm-evaluation-harness, `<dataset>/<method>.json` of KVCache-Factory, and one file of any name for a benchmark of
    one dataset (GSM8K, LongBench v2).

    Args:
        path: a folder, or the file of a benchmark of one dataset.
        name: the benchmark's, for messages.
        benchmark: what the datasets are called.
        method: whose predictions, in a folder with those of several.

    Raises:
        ConfigError: several files could be meant, or there is nothing of `method`.
        DataMissing: there is no such folder, or no file in it could hold predictions of the benchmark.
    """
    several = f"--method: for a folder with predictions of several methods, got {path}; leave it out"
    if benchmark.single and not os.path.isdir(path):
        if method is not None:
            raise ConfigError(several)
        return Found({benchmark.datasets[0]: path})
    layout = f"{benchmark.prefix}<dataset>.jsonl"
    if not os.path.isdir(path):
        raise DataMissing(f"{path}: a folder with {layout} files, got none; give the folder of stored predictions")
    found = _single(path, benchmark) if benchmark.single else _flat(path, name, benchmark)
    if not found.files and (nested := _nested(path, benchmark)):
        return _of_method(path, nested, method)
    if method is not None:
        raise ConfigError(several)
    if not found.files:
        others = len(found.skipped)
        got = f"{others} .jsonl files without a line of one{_first_reason(found)}"
        raise DataMissing(f"{path}: {layout} or <dataset>/<method>.json files of {name}, got {got}; see --benchmark")
    return found


def _first_reason(found: Found) -> str:
    return next((f" ({name}: {reason})" for name, reason in found.skipped.items()), "")


def _nested(path: Path, benchmark: Benchmark) -> dict[str, dict[str, Path]]:
    """Dataset → method → its file; nothing where no folder has a dataset's name."""
    folders = {dataset: path / dataset for dataset in benchmark.datasets}
    return {dataset: _by_method(folder) for dataset, folder in folders.items() if os.path.isdir(folder)}


def _by_method(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in sorted(folder.glob("*.json*")):
        if file.suffix not in (".json", ".jsonl") or file.stem in NO_PREDICTIONS:
            continue
        if file.stem in found:
            raise ConfigError(f"{folder}: one file of {file.stem}, got {found[file.stem].name}, {file.name}; leave one")
        found[file.stem] = file
    return found


def _of_method(path: Path, nested: dict[str, dict[str, Path]], method: str | None) -> Found:
    known = sorted({name for files in nested.values() for name in files})
    if method is None and len(known) != 1:
        got = f"{path}, which holds {', '.join(known) or 'no .json file'}"
        raise ConfigError(f"--method: the one to be scored of {got}; name one of them")
    name = known[0] if method is None else method
    if name not in known:
        raise ConfigError(f"--method: one of {', '.join(known)} in {path}, got {name}")
    missing = {dataset: f"no predictions of {name}" for dataset, files in nested.items() if name not in files}
    return Found({dataset: files[name] for dataset, files in nested.items() if name in files}, missing)


def _single(path: Path, benchmark: Benchmark) -> Found:
    """Of a benchmark of one dataset the only file of its name, or the only one at all."""
    (dataset,) = benchmark.datasets
    files = sorted(file for file in path.glob("*.json*") if file.suffix in (".json", ".jsonl"))
    named = [file for file in files if _dataset(file.stem, dataset, benchmark) == dataset] or files
    if len(named) > 1:
        raise ConfigError(f"{path}: one file of {dataset}, got {', '.join(f.name for f in named)}; give one of them")
    return Found(dict.fromkeys(benchmark.datasets, named[0]) if named else {})


def _flat(path: Path, name: str, benchmark: Benchmark) -> Found:
    found = Found()
    files: dict[str, list[Path]] = {}
    for file in sorted(path.glob("*.jsonl")):
        dataset = _dataset(file.name.removesuffix(".jsonl"), name, benchmark)
        if dataset is not None:
            files.setdefault(dataset, []).append(file)
            continue
        # a name that is not UTF-8 can be printed
        shown = os.fsencode(file.name.removesuffix(".jsonl").removeprefix(benchmark.prefix)).decode(errors="replace")
        part = PART.fullmatch(shown)
        if part and part["dataset"] in benchmark.datasets:
            found.skipped[shown] = f"a part of {part['dataset']}; join the parts to {benchmark.file(part['dataset'])}"
        else:
            found.skipped[shown] = f"not a dataset of {name}"
    for dataset in (dataset for dataset in benchmark.datasets if dataset in files):
        if len(files[dataset]) == 1:
            found.files[dataset] = files[dataset][0]
        else:
            found.skipped[dataset] = f"several files: {', '.join(file.name for file in files[dataset])}; leave one"
    return found


def _dataset(stem: str, name: str, benchmark: Benchmark) -> str | None:
    """The dataset whose predictions a file of that name holds."""
    plain = stem.removeprefix(benchmark.prefix) if stem.startswith(benchmark.prefix) else ""
    if sample := SAMPLES.fullmatch(stem):
        plain = sample["task"] if sample["task"] in benchmark.datasets else sample["task"].removeprefix(f"{name}_")
    return plain if plain in benchmark.datasets else None
