"""Methods of one model, dtype and machine at one length: what each needs, how well it answers, how fast it is."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pcbench.differences import Difference
from pcbench.report.reading.results import Entry, Results
from pcbench.report.verdict.choosing.accuracies import (
    Accuracy,
    Question,
    accuracy_of,
    answers,
    asked_of_all,
    is_better,
)
from pcbench.report.verdict.choosing.asked import Asked, check_model
from pcbench.report.verdict.choosing.needs import Need, held_by_full, need_of, weight_bytes
from pcbench.report.verdict.losses import loss_change
from pcbench.report.verdict.tradeoffs import without_twins
from pcbench.suites.labels import labels
from pcbench.types import Record

__all__ = ["Candidate", "Setting", "settings"]

# what fits comes first, what may, what does not
ORDER = ("fits", "cannot tell", "does not fit")
# model, dtype, quantize and machine
Key = tuple[str, str, str | None, str]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A method with its parameters.

    Args:
        label: what people call it: the suite's label or the method's name, with what tells it from the others.
        record: one of its records, for what they share.
        config: its parameters, but those that are null.
        need: memory at the length.
        accuracy: None where it was not measured at the length on what the others were asked.
        loss: on a text, minus full attention's; None where it was not measured at the length.
        speed: the entry whose speed-ups over full attention at the length are of most repeats; None without any.
    """

    label: str
    record: Record
    config: dict[str, Any]
    need: Need
    accuracy: Accuracy | None
    loss: Difference | None
    speed: Entry | None


@dataclass(frozen=True)
class Setting:
    """What may be compared: one model in one dtype, of one kind of weights, on one machine, at one length.

    Args:
        model, dtype, quantize, machine: the same in all records.
        asked: the question.
        context: tokens.
        trained: whether the model's weights are; answers of random ones are not scored.
        questions: what scores are of.
        candidates: what fits first, then by score.
    """

    model: str
    dtype: str
    quantize: str | None
    machine: str
    asked: Asked
    context: int
    trained: bool
    questions: list[Question]
    candidates: list[Candidate]

    @property
    def title(self) -> str:
        """`smollm2-135m, float32, AMD EPYC (2 threads)`."""
        weights = f", {self.quantize} weights" if self.quantize else ""
        return f"{self.model}, {self.dtype}{weights}, {self.machine}"

    @cached_property
    def better(self) -> dict[Candidate, list[Candidate]]:
        """Of each candidate those that are shown to answer better."""
        scored = [c for c in self.candidates if c.accuracy]
        return {
            c: [o for o in scored if c.accuracy and o.accuracy and o is not c and is_better(o.accuracy, c.accuracy)]
            for c in self.candidates
        }

    def of_fit(self, fit: str) -> list[Candidate]:
        """The candidates that fit, do not, or of which nobody can tell; all of them where no memory was asked for."""
        limit = self.asked.memory
        return [c for c in self.candidates if limit is None or c.need.fit(limit) == fit]


def settings(results: Results, asked: Asked) -> list[Setting]:
    """One for every model, dtype and machine that has a method to choose, in the order of the records.

    Raises:
        ConfigError: no record is of the model that is asked for.
    """
    if asked.model is not None:
        check_model(asked.model, (r.model for run in results.runs for r in run.records if r.model))
    found: dict[Key, list[Entry]] = {}
    for entry in results.shown_in("choose"):
        r, planned = entry.record, entry.record.cell in results.run_of(entry).planned
        if planned and not entry.average and r.context_tokens is not None and asked.model in (None, r.model):
            found.setdefault((r.model, r.dtype, r.quantize, _machine(results, entry)), []).append(entry)
    return [
        made
        for key, entries in found.items()
        if (made := _setting(results, asked, key, without_twins(entries))) is not None
    ]


def _machine(results: Results, entry: Entry) -> str:
    """Hardware as records and manifest name it, with what decides how fast it is."""
    r = entry.record
    environment = results.run_of(entry).manifest.get("environment") or {}
    hardware = r.gpu or environment.get("cpu") or r.device
    # as older records have it
    runtime = "1 thread" if r.runtime == "1 threads" else r.runtime
    return f"{hardware} ({', '.join(str(x) for x in (r.arch, runtime) if x)})"


def _setting(results: Results, asked: Asked, key: Key, entries: Sequence[Entry]) -> Setting | None:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        r = entry.record
        groups.setdefault(json.dumps([r.method, r.backend, _told(r.method_config)], sort_keys=True), []).append(entry)
    context = asked.context or _length(groups.values())
    if context is None or (len(groups) < 2 and asked.context is None):
        return None
    found = [answers(of, context) for of in groups.values()]
    questions = asked_of_all(found)
    specs = [spec for e in entries if (spec := results.run_of(e).manifest.get("model")) and isinstance(spec, dict)]
    spec = specs[-1] if specs else {}
    sizes = [size for e in entries if (size := e.record.weights_bytes)]
    # records that do not say it are older than quantised weights
    weights = sizes[-1] if sizes else weight_bytes(spec, key[1])
    held = held_by_full(entries, spec, key[1], context)
    called = labels([of[0].record for of in groups.values()])
    candidates = []
    for label, of, answered in zip(called, groups.values(), found, strict=True):
        record = of[-1].record
        need = need_of(of, context, weights, held if record.is_full else None)
        accuracy = accuracy_of(results, answered, questions, is_full=record.is_full)
        here = [e for e in of if e.record.context_tokens == context]
        losses = [change for e in here if (change := loss_change(e)) is not None]
        loss = max(losses, key=lambda change: change.n or 0, default=None)
        timed = [e for e in here if e.vs_full is not None]
        speed = max(timed, key=lambda e: e.record.repeats or 0, default=None)
        candidates.append(Candidate(label, record, _told(record.method_config), need, accuracy, loss, speed))
    candidates.sort(key=lambda c: _order(c, asked.memory))
    return Setting(*key, asked, context, spec.get("trained") is not False, questions, candidates)


def _order(candidate: Candidate, limit: int | None) -> tuple[int, float, float, int]:
    """By what fits, then by score, by loss where there is none, by memory."""
    fit = 0 if limit is None else ORDER.index(candidate.need.fit(limit))
    score = -candidate.accuracy.score.value if candidate.accuracy else 1.0
    loss = 0.0 if candidate.record.is_full else float("inf") if candidate.loss is None else candidate.loss.mean
    return fit, score, loss, candidate.need.low


def _length(groups: Iterable[Sequence[Entry]]) -> int | None:
    """The longest at which most methods have a peak, a score or a loss."""
    counts: Counter[int] = Counter()
    for entries in groups:
        known = [e for e in entries if e.usable and (e.record.peak_bytes or e.score or e.loss)]
        counts.update({e.record.context_tokens for e in known if e.record.context_tokens is not None})
    return max(counts, key=lambda tokens: (counts[tokens], tokens), default=None)


def _told(config: dict[str, Any]) -> dict[str, Any]:
    """Without what is null: not set, or not known when the record was written."""
    return {key: _told(x) if isinstance(x, dict) else x for key, x in config.items() if x is not None}
