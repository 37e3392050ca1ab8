"""The verdict strip: what a run was, how its cells ended, and its headline numbers with what they allow to say."""

import math
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import Any

from pcbench.report.results import Entry, Results
from pcbench.report.runs import Run
from pcbench.report.wording import NEEDS_REPEATS, Estimate, claim, number, percent, signed

__all__ = ["Headline", "Verdict", "score_difference", "verdicts"]

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
    """One run: facts as label → text, statuses with how many cells ended so, headlines."""

    run: str
    facts: dict[str, str]
    statuses: list[tuple[str, int]]
    headlines: list[Headline]
    notes: list[str]


def verdicts(results: Results) -> list[Verdict]:
    """One a run, in order."""
    return [_verdict(results, run) for run in results.runs]


def score_difference(a: Estimate, b: Estimate) -> Estimate:
    """a − b of two scores with its 95 % interval from theirs.

    The two are treated as independent; where both saw the same prompts the interval is on the wide side.

    Source: method of variance estimates recovery, Zou and Donner 2008 (Newcombe 1998 for two shares).
    """
    difference = a.value - b.value
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Estimate(difference, None, None)
    low = difference - math.hypot(a.value - a.low, b.high - b.value)
    high = difference + math.hypot(a.high - a.value, b.value - b.low)
    return Estimate(difference, low, high)


def _verdict(results: Results, run: Run) -> Verdict:
    entries = results.of(run)
    ended: Counter[str] = Counter(e.record.status for e in entries)
    headlines, notes = [], []
    subject = _subject(results, [e for e in entries if not e.kernel])
    if subject is not None:
        found = (_speed(subject, entries), _memory(results, subject), _score(results, subject))
        headlines = [headline for headline in found if headline is not None]
        notes = _beyond(subject, entries)
    headlines += _kernels(entries)
    if not headlines:
        notes.append(
            "No headline number: no cell holds a speed-up, a peak or a score beside that of stock full attention."
        )
    return Verdict(run.name, _facts(run, entries), [(s, ended[s]) for s in STATUSES if ended[s]], headlines, notes)


def _facts(run: Run, entries: list[Entry]) -> dict[str, str]:
    manifest = run.manifest
    environment: dict[str, Any] = manifest.get("environment", {})
    hardware = environment.get("gpu") or environment.get("cpu")

    def values(name: str) -> str:
        return ", ".join(dict.fromkeys(text for e in entries if (text := str(getattr(e.record, name)))))

    facts = {
        "suite": values("suite") or str(manifest.get("suite", "")),
        "model": values("model"),
        "device": values("device") or str(environment.get("device", "")),
        "hardware": ", ".join(str(x) for x in (hardware, environment.get("arch"), environment.get("runtime")) if x),
        "dtype": values("dtype"),
        "torch": str(environment.get("torch") or ""),
        "date": str(manifest.get("created_at", "")).replace("T", " ", 1),
        "cells": f"{len(entries):,} of {len(manifest.get('cells', entries)):,} planned",
    }
    return {label: text for label, text in facts.items() if text}


def _subject(results: Results, entries: list[Entry]) -> Entry | None:
    """The entry the headlines are about: the fastest against full attention at the longest length that has one."""
    fast = [e for e in entries if e.vs_full is not None]
    if fast:
        longest = max(e.record.context_tokens or 0 for e in fast)
        at = [e for e in fast if (e.record.context_tokens or 0) == longest]
        return max(at, key=lambda e: e.vs_full.value if e.vs_full else 0.0)
    other = [e for e in entries if e.usable and e.record.backend != "torch" and results.stock_of(e) is not None]
    return max(other, key=lambda e: e.record.context_tokens or 0, default=None)


def _at(entry: Entry) -> str:
    tokens = entry.record.context_tokens
    return "" if tokens is None else f" at {tokens:,} tokens"


def _speed(entry: Entry, entries: list[Entry]) -> Headline | None:
    found = entry.vs_full
    if found is None:
        return None
    rivals = [e for e in entries if e.vs_full and e.record.context_tokens == entry.record.context_tokens]
    best = f", the best of {len(rivals)} at this length" if len(rivals) > 1 else ""
    return Headline(
        f"Speed-up over full attention{_at(entry)}",
        f"{number(found.value, digits=3)}×",
        _interval(found, "×"),
        claim(found, 1.0, "faster", "slower"),
        f"{entry.name}, against {entry.record.baseline or 'an unnamed baseline'}{best}",
        "speedup",
    )


def _memory(results: Results, entry: Entry) -> Headline | None:
    stock = results.stock_of(entry)
    if stock is None or not stock.record.peak_bytes or entry.record.peak_bytes is None:
        return None
    ratio = entry.record.peak_bytes / stock.record.peak_bytes
    mib = [number(e.record.peak_bytes, 1 / (1 << 20)) for e in (entry, stock)]
    return Headline(
        f"Peak memory over full attention's{_at(entry)}",
        f"{number(ratio, digits=3)}×",
        "one pass each, no interval",
        "lower peak" if ratio < 1 else "higher peak" if ratio > 1 else "the same peak",
        f"{entry.name}: {mib[0]} MiB, {stock.series.label}: {mib[1]} MiB",
        "memory",
    )


def _score(results: Results, entry: Entry) -> Headline | None:
    stock = results.stock_of(entry)
    if stock is None or entry.score is None or stock.score is None or stock.record.scorer != entry.record.scorer:
        return None
    points = Estimate(*(None if x is None else x * 100 for x in score_difference(entry.score, stock.score)))  # type: ignore[arg-type]
    interval = "no interval in the records"
    if points.low is not None and points.high is not None:
        interval = f"95 % interval {signed(points.low)} to {signed(points.high)}"
    reading = claim(points, 0.0, "higher", "lower")
    return Headline(
        f"Score minus full attention's{_at(entry)}",
        f"{signed(points.value, 1)} points",
        interval,
        "no claim" if reading == NEEDS_REPEATS else reading,
        f"{percent(entry.score.value)} and {percent(stock.score.value)} of 100 by {entry.record.scorer}, "
        f"{number(entry.record.n_samples)} prompts each",
        "accuracy",
    )


def _kernels(entries: list[Entry]) -> list[Headline]:
    """How many ops on their compiled backend beat the fastest baseline that ran."""
    found = {e: e.vs_baseline for e in entries if e.vs_baseline is not None and e.record.backend != "reference"}
    if not found:
        return []
    said = Counter(claim(estimate, 1.0, "faster", "slower") for estimate in found.values())
    slowest = min(found, key=lambda e: found[e].value)
    return [
        Headline(
            "Kernels against their fastest baselines",
            f"{said['faster']} of {len(found)} faster",
            f"median ratio {number(median(estimate.value for estimate in found.values()), digits=3)}×",
            ", ".join(f"{count} {reading}" for reading, count in sorted(said.items())),
            f"the least is {number(found[slowest].value, digits=3)}× {slowest.record.baseline} ({slowest.name})",
            "kernels",
        )
    ]


def _interval(found: Estimate, unit: str) -> str:
    if found.low is None or found.high is None:
        return NEEDS_REPEATS
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
