"""The answer to which method to use as plain data."""

from collections.abc import Callable, Sequence
from typing import Any

from pcbench.differences import Difference
from pcbench.report.reading.results import Results
from pcbench.report.verdict.choosing.asked import Asked
from pcbench.report.verdict.choosing.candidates import Candidate, Setting
from pcbench.report.verdict.choosing.commands import Missing, accuracy_commands, memory_commands
from pcbench.report.verdict.choosing.words import answer, reading, remarks, speed_text
from pcbench.report.wording import Estimate

__all__ = ["as_data"]

SCHEMA = 1


def as_data(
    results: Results, asked: Asked, found: Sequence[Setting], said: Callable[[Missing], str] = Missing.command
) -> dict[str, Any]:
    """What `pcbench choose --json` prints.

    Returns:
        `settings`, one for every model, dtype and machine: their `answer`, `methods` in the order of the table, and the
        `commands` that measure what is missing. Sizes are bytes, scores 0…1, changes points of 100; what was not
        measured is null.
    """
    return {
        "schema": SCHEMA,
        "memory_bytes": asked.memory,
        "context_tokens": asked.context,
        "settings": [_setting(results, setting, said) for setting in found],
    }


def _setting(results: Results, setting: Setting, said: Callable[[Missing], str]) -> dict[str, Any]:
    return {
        "model": setting.model,
        "dtype": setting.dtype,
        "quantize": setting.quantize,
        "machine": setting.machine,
        "context_tokens": setting.context,
        "answer": answer(setting),
        "remarks": remarks(setting),
        "questions": [question._asdict() for question in setting.questions],
        "methods": [_candidate(results, setting, candidate) for candidate in setting.candidates],
        "commands": {"memory": memory_commands(setting, said), "accuracy": accuracy_commands(setting, said)},
    }


def _candidate(results: Results, setting: Setting, candidate: Candidate) -> dict[str, Any]:
    need, mine, limit = candidate.need, candidate.accuracy, setting.asked.memory
    entry = candidate.speed
    return {
        "label": candidate.label,
        "method": candidate.record.method,
        "config": candidate.config,
        "backend": candidate.record.backend,
        "fit": None if limit is None else need.fit(limit),
        "memory": need.words(limit),
        "least_bytes": need.low or None,
        "most_bytes": need.high,
        "score": mine and _ends(mine.score),
        "prompts": mine and mine.prompts,
        "reading": reading(setting, candidate),
        "behind": [better.label for better in setting.better[candidate]],
        "score_minus_full": None if mine is None or mine.change is None else _change(mine.change),
        "loss_minus_full": None if candidate.loss is None else _change(candidate.loss),
        "speedup_vs_full": entry and _ends(entry.vs_full),
        "decode_speedup_vs_full": entry and _ends(entry.decode_vs_full),
        "speed": speed_text(results, candidate),
    }


def _ends(estimate: Estimate | None) -> dict[str, float | None] | None:
    return None if estimate is None else estimate._asdict()


def _change(change: Difference) -> dict[str, Any]:
    return {"value": change.mean, "low": change.low, "high": change.high, "n": change.n, "reading": change.words()}
