"""Samples of accuracy suites → records: scores with intervals, differences to full attention, averages."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pcbench.differences import average_difference, mean_of_means, paired_difference
from pcbench.harness.kinds.accuracy.outcomes import Outcome
from pcbench.harness.kinds.methods.cells import Prepared
from pcbench.harness.kinds.methods.summary import add_difference, add_parity, add_scores, paired_scores
from pcbench.statistics import score_interval
from pcbench.tasks import bucket, size
from pcbench.tasks.base import task_id
from pcbench.tasks.scorecards.published import RunFacts, TaskRead, published_score
from pcbench.types import ModelSpec, Record, Sample

__all__ = ["add_sizes", "average_records", "records_by_words", "summarise_accuracy"]

NUMBER = re.compile(r"\d+")


def summarise_accuracy(
    cells: Sequence[Prepared],
    outcomes: Sequence[Outcome],
    spec: ModelSpec,
    shared: dict[str, Any],
    repro: str,
    note: Callable[[str], None],
) -> list[Record]:
    """One record a cell, made from its samples alone, so that it does not matter when and where they were taken.

    Args:
        cells: of one group.
        outcomes: theirs.
        spec: their model.
        shared: fields all records of the run carry: run, gpu, arch, torch, commit, …
        repro: the command that measures this group again.
        note: told how full attention stands to published scores.
    """
    stock = [o for p, o in zip(cells, outcomes, strict=True) if p.cell.is_full and o.status == "ok"]
    records = []
    for prepared, outcome in zip(cells, outcomes, strict=True):
        cell, task = prepared.cell, prepared.task
        record = Record.of(
            cell,
            task=task_id(cell.task, task),
            status=outcome.status,
            reason=outcome.reason,
            prompts=outcome.prompts,
            repro_command=repro,
            **outcome.attention,
            **outcome.weights,
            **shared,
        )
        add_parity(record, outcome.parity)
        if outcome.status == "ok":
            add_sizes(record, outcome)
            add_scores(record, outcome.samples, task, unscored=not spec.trained)
            if stock and outcome is not stock[0]:
                pairs = paired_scores(outcome.samples, stock[0].samples)
                add_difference(record, paired_difference(*pairs) if pairs[0] else None)
            _check_published(record, [prepared], [outcome.samples], note)
        if outcome.skipped:
            record.skipped_records = len(outcome.skipped)
            counted = f"{record.skipped_records} of {len(cell.indices)} records skipped"
            record.warnings = [counted, *outcome.skipped.values(), *record.warnings]
        records.append(record)
    return records


def add_sizes(record: Record, outcome: Outcome) -> None:
    """Of the largest prompt; the warnings of all."""
    for name in ("chunks", "chunk_tokens", "kept_tokens", "kv_bytes", "kv_bytes_prompt"):
        values = [x for s in outcome.samples if (x := getattr(s, name)) is not None]
        setattr(record, name, max(values, default=None))
    record.warnings = [*_warnings(outcome.samples), *outcome.attention_warnings]


def _warnings(samples: Sequence[Sample]) -> list[str]:
    """Every warning once; of those that differ in their numbers alone the first, and how many prompts have one."""
    alike: dict[str, list[str]] = {}
    for sample in samples:
        for words, warning in {NUMBER.sub("#", warning): warning for warning in sample.warnings}.items():
            alike.setdefault(words, []).append(warning)
    return [
        said[0] if len(set(said)) == 1 else f"{len(said)} of {len(samples)} prompts, the first: {said[0]}"
        for said in alike.values()
    ]


def _check_published(
    record: Record, cells: Sequence[Prepared], samples: Sequence[Sequence[Sample]], note: Callable[[str], None]
) -> None:
    """Holds full attention against what was published for the same model and settings."""
    if not record.is_full or record.score is None:
        return
    sizes = [size(p.cell.task, p.cell.context_tokens) for p in cells]
    facts = RunFacts(
        model=record.model,
        tasks=[_read(p.cell.task, found) for p, found in zip(cells, samples, strict=True)],
        context_tokens=record.context_tokens,
        prompts=record.prompts,
        scorer=(record.scorer or "").partition("@")[0],
        whole=sizes == [len(found) for found in samples],
    )
    if (published := published_score(facts)) is not None:
        note(f"{record.method}/{record.backend} @ {record.workload}: {published.line(record.score)}")
        if published.differs(record.score):
            record.warnings.append(published.line(record.score))


def _read(task: str, samples: Sequence[Sample]) -> TaskRead:
    lengths = [(s.tokens or 0, s.tokens_before or 0) for s in samples]
    longest = max(tokens for tokens, _ in lengths)
    return TaskRead(task, longest, cut=any(before > tokens for tokens, before in lengths))


def average_records(
    cells: Sequence[Prepared],
    records: Mapping[str, Record],
    samples: Sequence[Sample],
    tasks: Sequence[str],
    shared: dict[str, Any],
    repro: str,
    note: Callable[[str], None],
) -> list[Record]:
    """The plain mean over datasets of every line of the suite: a method on a backend at a length.

    A line's average is over those of `tasks` whose cell has a score, two at least, and its workload names them unless
    they are all; the difference to full attention is over those that full attention has too.

    Args:
        cells: of the whole suite.
        records: by cell.
        samples: of all cells.
        tasks: workloads to average.
        shared, repro, note: as in `summarise_accuracy`.
    """
    by_cell: dict[str, list[Sample]] = {}
    for sample in samples:
        by_cell.setdefault(sample.cell, []).append(sample)
    lines: dict[tuple[str, str, int | None, str | None], list[Prepared]] = {}
    for prepared in cells:
        cell = prepared.cell
        record = records.get(cell.key)
        if cell.workload in tasks and record is not None and record.score is not None:
            key = (prepared.where, cell.backend, cell.context_tokens, cell.quantize)
            lines.setdefault(key, []).append(prepared)
    found_by = {key: {p.cell.workload: by_cell[p.cell.key] for p in line} for key, line in lines.items()}
    # by length and weights
    stock: dict[tuple[int | None, str | None], dict[str, list[Sample]]] = {}
    for key, found in found_by.items():
        if lines[key][0].cell.is_full:
            stock.setdefault(key[2:], found)
    averaged = []
    for key, line in lines.items():
        found, full = found_by[key], stock.get(key[2:], {})
        if len(line) < 2:
            continue
        record = _average(line, found, [records[p.cell.key] for p in line], tasks, shared | {"repro_command": repro})
        _check_published(record, line, list(found.values()), note)
        if found is not full:
            pairs = {name: paired_scores(ours, full[name]) for name, ours in found.items() if name in full}
            pairs = {name: both for name, both in pairs.items() if both[0]}
            add_difference(record, average_difference(pairs) if pairs else None)
            if lost := [name for name in found if name not in pairs]:
                of = f"{len(pairs)} of {len(found)} datasets, without {', '.join(lost)}"
                record.warnings.append(f"minus full attention: over {of}")
        averaged.append(record)
    return averaged


def _average(
    line: Sequence[Prepared],
    samples: Mapping[str, Sequence[Sample]],
    records: Sequence[Record],
    tasks: Sequence[str],
    shared: dict[str, Any],
) -> Record:
    names = list(samples)
    workload = "average" if set(names) == set(tasks) else f"average of {', '.join(names)}"
    configs = [p.cell.method_config for p in line]
    same = {key: value for key, value in configs[0].items() if all(c.get(key) == value for c in configs)}
    scores = {name: [s.score for s in found if s.score is not None] for name, found in samples.items()}
    mean, low, high = mean_of_means([score_interval(found) for found in scores.values()])
    return Record.of(
        replace(line[0].cell, workload=workload, method_config=same),
        task=f"average of {', '.join(p.cell.task for p in line)}",
        prompts=", ".join(dict.fromkeys(r.prompts for r in records if r.prompts)),
        score=mean,
        score_ci_low=None if low is None else max(0.0, low),
        score_ci_high=None if high is None else min(1.0, high),
        score_name=f"mean of {len(names)} datasets",
        scorer=", ".join(dict.fromkeys(r.scorer for r in records if r.scorer)),
        n_samples=sum(map(len, scores.values())),
        **shared,
    )


def records_by_words(
    cells: Sequence[Prepared],
    records: Mapping[str, Record],
    samples: Sequence[Sample],
    spec: ModelSpec,
    shared: dict[str, Any],
    repro: str,
) -> list[Record]:
    """The scores of every cell by the length of its records, in LongBench-E's buckets.

    Args:
        cells: of the whole suite.
        records: by cell; those without a score have no buckets.
        samples: of all cells; a task whose records have no length has no buckets.
        spec: the model.
        shared, repro: as in `summarise_accuracy`.
    """
    buckets: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        if sample.words is not None:
            buckets.setdefault((sample.cell, bucket(sample.words)), []).append(sample)
    scored = [p for p in cells if p.cell.key in records and records[p.cell.key].score is not None]
    stock = {p.cell.group: p.cell.key for p in reversed(scored) if p.cell.is_full}
    found = []
    for prepared in scored:
        cell, whole = prepared.cell, records[prepared.cell.key]
        for (key, name), taken in sorted(buckets.items()):
            if key != cell.key:
                continue
            record = Record.of(
                replace(cell, workload=f"{cell.workload}, {name} words"),
                task=whole.task,
                prompts=whole.prompts,
                repro_command=repro,
                **shared,
            )
            add_scores(record, taken, prepared.task, unscored=not spec.trained)
            full = stock.get(cell.group, cell.key)
            if full != cell.key:
                pairs = paired_scores(taken, buckets.get((full, name), []))
                add_difference(record, paired_difference(*pairs) if pairs[0] else None)
            found.append(record)
    return found
