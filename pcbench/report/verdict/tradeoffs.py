"""Accuracy against speed and memory: choices, and which of them no other beats in both."""

import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pcbench.differences import Difference
from pcbench.report.reading.results import Entry, Results, Series
from pcbench.report.verdict.changes import kv_gain, mean_change, memory_gain, score_change
from pcbench.report.wording import Estimate

__all__ = ["MEASURES", "Choice", "Measure", "Tradeoff", "averaged", "direct", "front", "shared", "without_twins"]

Place = tuple[str, int]
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Measure:
    """What is gained, as a ratio to full attention: above 1 is better."""

    title: str
    short: str
    of: Callable[[Results, Entry], Estimate | None]


MEASURES = (
    Measure("speed-up over full attention (×)", "Speed-up", lambda results, entry: entry.vs_full),
    Measure("decoding speed-up over full attention (×)", "Decoding", lambda results, entry: entry.decode_vs_full),
    Measure("peak memory, times smaller (×)", "Peak memory", memory_gain),
    Measure("KV cache, times smaller (×)", "KV cache", kv_gain),
)


@dataclass(frozen=True)
class Choice:
    """A method with its parameters: its change of accuracy in points, and one gain."""

    series: Series
    change: Difference
    gain: Estimate


@dataclass(frozen=True)
class Tradeoff:
    """Choices that may be held against each other.

    Args:
        title: what they share.
        measure: the gain.
        choices: one a series.
        group: run and workload, empty for a mean; tokens: the length.
    """

    title: str
    measure: Measure
    choices: list[Choice]
    group: tuple[str, ...]
    tokens: int


def direct(results: Results, measure: Measure) -> list[Tradeoff]:
    """Accuracy and gain of the same cells, one trade-off a run, panel and length."""
    places: dict[tuple[str, str, int], list[Choice]] = {}
    for entry in without_twins(results.shown_in("tradeoff")):
        change, gain = score_change(results, entry), measure.of(results, entry)
        if change is not None and gain is not None:
            place = (entry.run, entry.panel, entry.record.context_tokens or 0)
            places.setdefault(place, []).append(Choice(entry.series, change.difference, gain))
    return [
        Tradeoff(_title(panel, tokens), measure, found, (run, panel), tokens)
        for (run, panel, tokens), found in places.items()
    ]


def averaged(results: Results, measure: Measure) -> Tradeoff | None:
    """Mean change over the workloads and lengths that all methods share, against the gain where it is longest.

    Accuracy and gain may come from different suites and runs; runs of the same cells stay apart. None where the one
    workload and length that has a change is also that of the gain.
    """
    key = _key(results)
    changes = _by_method(results, key, lambda e: None if (c := score_change(results, e)) is None else c.difference)
    gains = _by_method(results, key, lambda e: measure.of(results, e))
    both = [method for method in changes if method in gains]
    scored = shared(changes[method] for method in both)
    gained = shared(gains[method] for method in both)
    longest = max(gained, key=lambda place: place[1], default=None)
    if not scored or longest is None or scored == [longest]:
        return None
    series = {key(e): e.series for e in reversed(results.shown_in("tradeoff"))}
    choices = [
        Choice(series[one], mean_change([changes[one][place] for place in scored]), gains[one][longest]) for one in both
    ]
    every = {place for method in both for place in changes[method]}
    some = f"{len(scored)} of {len(every)}" if len(scored) < len(every) else f"{len(scored)}"
    title = f"mean change over {some} workloads and lengths, gain at {_title(*longest)}"
    return Tradeoff(title, measure, choices, (), longest[1])


def front(choices: Sequence[Choice]) -> list[Choice]:
    """Choices that no other, nor full attention itself, equals in one and beats in the other; least accurate first."""

    def beaten(one: Choice) -> bool:
        mine = (one.change.mean, one.gain.value)
        others = [(0.0, 1.0), *((c.change.mean, c.gain.value) for c in choices if c is not one)]
        return any(a >= mine[0] and b >= mine[1] and (a, b) != mine for a, b in others)

    return sorted((c for c in choices if not beaten(c)), key=lambda c: c.change.mean)


def without_twins(entries: Sequence[Entry]) -> list[Entry]:
    """Without those in pure PyTorch of what also runs compiled: they keep the same tokens and are no choice."""
    compiled = {e.record.method for e in entries if e.record.backend not in ("torch", "reference")}
    return [e for e in entries if e.record.backend != "reference" or e.record.method not in compiled]


def _by_method(
    results: Results, key: Callable[[Entry], str], value: Callable[[Entry], T | None]
) -> dict[str, dict[Place, T]]:
    found: dict[str, dict[Place, T]] = {}
    for entry in without_twins(results.shown_in("tradeoff")):
        estimate = None if entry.average else value(entry)
        if estimate is not None:
            place = (entry.record.workload, entry.record.context_tokens or 0)
            found.setdefault(key(entry), {})[place] = estimate
    return found


def _key(results: Results) -> Callable[[Entry], str]:
    """Names a method alike in every suite and run, but for runs of the same cells, or of models compiled and not."""
    records = [record for run in results.runs for record in run.records]
    compiled = {record.compile_ms is not None for record in records if record.samples_ms}
    apart = len({record.cell for record in records}) < len(records) or len(compiled) > 1

    def key(entry: Entry) -> str:
        r = entry.record
        parts = [r.model, r.method, r.method_config, r.backend, r.device, r.dtype, r.quantize]
        parts.append(entry.run if apart else None)
        return json.dumps(parts, sort_keys=True)

    return key


def shared(found: Iterable[Mapping[K, object]]) -> list[K]:
    """Keys that all have, as workloads and lengths, in the order of the first."""
    first, *others = list(found) or [{}]
    return [key for key in first if all(key in other for other in others)]


def _title(panel: str, tokens: int) -> str:
    return f"{panel}, {tokens:,} tokens" if tokens else panel
