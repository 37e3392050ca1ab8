"""The verdict strip: what a run was, how its cells ended, and its headline numbers with what they allow to say."""

from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import Any

from pcbench.differences import Difference
from pcbench.report.reading.results import Entry, Results
from pcbench.report.reading.runs import Run
from pcbench.report.verdict.changes import memory_claim, memory_gain, score_change, speed_claim
from pcbench.report.verdict.gates import Gate, gates
from pcbench.report.verdict.losses import least_loss, nats_span
from pcbench.report.verdict.sentence import sentence
from pcbench.report.verdict.subjects import Place, at, mean_changes, smallest_peak, subject_of
from pcbench.report.wording import Estimate, counted, interval, number, peak_text, percent, signed

__all__ = ["Headline", "Verdict", "verdicts"]

MIB = 1 / (1 << 20)
# workloads that a line names
NAMED = 3
STATUSES = ("ok", "parity_failed", "error", "timeout", "out_of_memory", "unsupported", "data_missing")


@dataclass(frozen=True)
class Headline:
    """One number.

    Args:
        title: what it is.
        value: with its unit.
        interval: 95 %, or why there is none.
        reading: what may be said.
        detail: of which cell, against which.
        evidence: anchor of the section behind it.
    """

    title: str
    value: str
    interval: str
    reading: str
    detail: str
    evidence: str


@dataclass(frozen=True)
class Verdict:
    """One run: its title, what came out in a sentence, facts as label → text, gates, how many cells ended how."""

    title: str
    sentence: str
    gates: list[Gate]
    facts: dict[str, str]
    statuses: list[tuple[str, int]]
    headlines: list[Headline]
    notes: list[str]


def verdicts(results: Results) -> list[Verdict]:
    """One a run, in order."""
    return [_verdict(results, run) for run in results.runs]


def _verdict(results: Results, run: Run) -> Verdict:
    entries = results.of(run)
    ended: Counter[str] = Counter(e.record.status for e in entries)
    headlines, notes = [], []
    methods = results.shown_in("tradeoff", run)
    subject = subject_of(results, methods)
    if subject is not None:
        timed = subject.vs_full is not None
        score = _score(results, subject) if timed else _mean_score(results, methods)
        smallest = None if timed else smallest_peak(results, methods)
        peak = _memory(results, *smallest) if smallest else _memory(results, subject)
        numbers = (_speed(results, subject, methods), peak, score)
        headlines = [headline for headline in numbers if headline is not None]
        notes = _beyond(subject, methods)
    headlines += _reference(results, results.shown_in("speedup", run))
    headlines += _fit(results.shown_in("memory", run))
    headlines += _loss(results, results.shown_in("perplexity", run))
    headlines += _kernels(results, results.shown_in("kernels", run))
    if not headlines:
        notes.append(_none(results, run))
    statuses = [(s, ended[s]) for s in STATUSES if ended[s]]
    # columns of several runs are called by their names
    title = run.title if len(results.runs) == 1 else f"{run.title} · {run.name}"
    return Verdict(title, sentence(results, run), gates(results, run), _facts(run, entries), statuses, headlines, notes)


def _none(results: Results, run: Run) -> str:
    others = results.shown_in("others", run)
    if others and len(others) == len(results.of(run)):
        return f"No headline number: there is none for kind {', '.join(sorted({e.record.kind for e in others}))}."
    return "No headline number: no cell holds a speed-up, a peak or a score beside that of stock full attention."


def _facts(run: Run, entries: list[Entry]) -> dict[str, str]:
    manifest = run.manifest
    environment: dict[str, Any] = manifest.get("environment", {})
    hardware = environment.get("gpu") or environment.get("cpu")

    def values(name: str) -> str:
        return ", ".join(dict.fromkeys(text for e in entries if (text := str(getattr(e.record, name)))))

    # what they are, where they are not as they were trained
    weights = (manifest.get("model") or {}).get("weights")
    facts = {
        "run": run.name,
        "suite": values("suite") or str(manifest.get("suite", "")),
        "model": f"{values('model')} ({weights})" if weights else values("model"),
        "device": values("device") or str(environment.get("device", "")),
        "hardware": ", ".join(str(x) for x in (hardware, environment.get("arch"), environment.get("runtime")) if x),
        "dtype": values("dtype"),
        "torch": str(environment.get("torch") or ""),
        "date": str(manifest.get("created_at", "")).replace("T", " ", 1),
        "cells": f"{len(run.planned) - run.missing:,} of {len(run.planned):,} planned",
    }
    return {label: text for label, text in facts.items() if text}


def _speed(results: Results, entry: Entry, entries: list[Entry]) -> Headline | None:
    found = entry.vs_full
    if found is None:
        return None
    rivals = [e for e in entries if e.vs_full and e.record.context_tokens == entry.record.context_tokens]
    best = f", the best of {len(rivals)} at this length" if len(rivals) > 1 else ""
    return Headline(
        f"Speed-up over full attention{at(entry)}",
        f"{number(found.value, digits=3)}×",
        _interval(found, "×"),
        speed_claim(results, entry, found),
        f"{entry.name}, against {entry.record.baseline or 'an unnamed baseline'}{best}",
        "speedup",
    )


def _memory(results: Results, entry: Entry, rivals: int = 1) -> Headline | None:
    gain, stock = memory_gain(results, entry), results.stock_of(entry)
    if gain is None or stock is None:
        return None
    mib = [peak_text(e.record.peak_bytes, e.record.peak_samples_bytes) for e in (entry, stock)]
    best = f", the smallest of {rivals} methods" if rivals > 1 else ""
    return Headline(
        f"Peak memory, times smaller than full attention's{at(entry)}",
        f"{number(gain.value, digits=3)}×",
        _passes(gain),
        memory_claim(gain),
        f"{entry.name}{best}: {mib[0]}; {stock.series.label}: {mib[1]}",
        "memory",
    )


def _passes(gain: Estimate) -> str:
    if gain.low is None or gain.high is None:
        return "one pass each, no spread"
    return f"{number(gain.low, digits=3)} to {number(gain.high, digits=3)}× over all passes"


def _score(results: Results, entry: Entry) -> Headline | None:
    change, stock = score_change(results, entry), results.stock_of(entry)
    if change is None or stock is None or entry.score is None or stock.score is None:
        return None
    how = "the same prompts pair by pair" if change.paired else "as if the prompts were different ones"
    return Headline(
        f"Score minus full attention's{at(entry)}",
        f"{signed(change.difference.mean, 1)} points",
        _points(change.difference),
        change.difference.words(),
        f"{percent(entry.score.value)} and {percent(stock.score.value)} of 100 by {entry.record.scorer}, "
        f"{number(entry.record.n_samples)} prompts each, {how}",
        "accuracy",
    )


def _mean_score(results: Results, entries: list[Entry]) -> Headline | None:
    """Of the best method: the average of its data sets where there is one, else over what all methods share."""
    found = mean_changes(results, entries)
    if found is None:
        return None
    best = found.best
    change = found.means[best]
    each = [score_change(results, e) for e in entries if e.series == best and not e.average]
    said = Counter(change.difference.words() for change in each if change is not None)
    of = _of(len(found.places), len(found.places) + len(found.left_out), "workload")
    mean = found.averages[0].record.score_name if found.averages else f"mean of {of}"
    among = f", the best of {len(found.means)} methods" if len(found.means) > 1 else ""
    among += _without(found.left_out)
    return Headline(
        f"Score minus full attention's, {mean}",
        f"{signed(change.mean, 1)} points",
        _points(change),
        change.words(),
        f"{best.label}{among}; by workload: {', '.join(f'{n} {text}' for text, n in sorted(said.items()))}",
        "accuracy",
    )


def _of(some: int, every: int, noun: str) -> str:
    return counted(some, noun) if some == every else f"{some} of {counted(every, noun)}"


def _without(places: list[Place]) -> str:
    """The workloads that a mean leaves out."""
    if not places:
        return ""
    named = ", ".join(f"{panel} {tokens:,}" for panel, tokens in places[:NAMED])
    more = f" and {len(places) - NAMED:,} more" if len(places) > NAMED else ""
    return f"; without {named}{more}, which not all methods and full attention have a score of"


def _reference(results: Results, entries: list[Entry]) -> list[Headline]:
    """What the kernels are worth, where nothing was timed against full attention."""
    fast = [(e.record.context_tokens or 0, found.value, e, found) for e in entries if (found := e.vs_reference)]
    if not fast or any(e.vs_full for e in entries):
        return []
    _, _, best, found = max(fast, key=lambda one: one[:2])
    return [
        Headline(
            f"Speed-up over the reference{at(best)}",
            f"{number(found.value, digits=3)}×",
            _interval(found, "×"),
            speed_claim(results, best, found),
            f"{best.name}, against the same method in pure PyTorch",
            "speedup",
        )
    ]


def _fit(entries: list[Entry]) -> list[Headline]:
    """Chunks that fit in the budget, with token eviction over without: of the longest context, the least."""
    known = [e for e in entries if e.usable and e.record.fit_ratio is not None]
    if not known:
        return []
    shown = max(known, key=lambda e: (e.record.context_tokens or 0, -(e.record.fit_ratio or 0.0)))
    r = shown.record
    return [
        Headline(
            f"Chunks that fit{at(shown)}, over without token eviction",
            f"{number(r.fit_ratio, digits=3)}×",
            "a count, no interval",
            "more fit" if (r.fit_ratio or 0) > 1 else "no more fit",
            f"{shown.name}: {number(r.chunks_that_fit)} chunks in {number(r.budget_bytes, MIB)} MiB",
            "memory",
        )
    ]


def _loss(results: Results, entries: list[Entry]) -> list[Headline]:
    """Of the method that loses least beside full attention at the longest length."""
    found = least_loss(entries)
    if found is None:
        return []
    entry, change, rivals = found
    stock = results.stock_of(entry)
    losses = [number(e.loss.value) for e in (entry, stock) if e is not None and e.loss is not None]
    best = f", the least of {rivals}" if rivals > 1 else ""
    return [
        Headline(
            f"Loss a token minus full attention's{at(entry)}",
            f"{signed(change.mean, 4)} nats",
            f"95 % interval {nats_span(change)}" if change.low is not None else "no interval: too few windows",
            change.words(),
            f"{entry.name}{best}: {' and '.join(losses)} nats, {number(change.n)} windows pair by pair",
            "perplexity",
        )
    ]


def _points(change: Difference) -> str:
    if change.low is None or change.high is None:
        return "no interval in the records"
    return f"95 % interval {signed(change.low, 1)} to {signed(change.high, 1)}"


def _kernels(results: Results, entries: list[Entry]) -> list[Headline]:
    """How many ops on their compiled backend beat the fastest baseline that ran."""
    found = {e: e.vs_baseline for e in entries if e.vs_baseline is not None and e.record.backend != "reference"}
    if not found:
        return []
    said = Counter(speed_claim(results, e, estimate).partition(",")[0] for e, estimate in found.items())
    slowest = min(found, key=lambda e: found[e].value)
    return [
        Headline(
            "Kernels against their fastest baselines",
            f"{said['faster']} of {len(found)} faster",
            f"median ratio {number(median(estimate.value for estimate in found.values()), digits=3)}×",
            ", ".join(f"{count} {reading}" for reading, count in sorted(said.items()) if reading != "faster"),
            f"the least is {number(found[slowest].value, digits=3)}× {slowest.record.baseline} ({slowest.name})",
            "kernels",
        )
    ]


def _interval(found: Estimate, unit: str) -> str:
    if found.low is None or found.high is None:
        return f"no interval: {interval(found)}"
    return f"95 % interval {number(found.low, digits=3)} to {number(found.high, digits=3)}{unit}"


def _beyond(subject: Entry, entries: list[Entry]) -> list[str]:
    """Lengths above the headline's that have no speed-up, and how their cells ended."""
    tokens = subject.record.context_tokens or 0
    longer = [e for e in entries if (e.record.context_tokens or 0) > tokens]
    if not longer:
        return []
    ended = Counter(e.record.status for e in longer)
    said = ", ".join(f"{count} {status}" for status, count in sorted(ended.items()))
    longest = max(e.record.context_tokens or 0 for e in longer)
    return [f"Longer cells, up to {longest:,} tokens, have no number beside full attention's: {said}."]
