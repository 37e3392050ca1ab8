"""Throughput: tokens and chunks a second, and what a parameter does to them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pcbench.report.figures import Point, against_length
from pcbench.report.page.parts import (
    MAX_PANELS,
    MAX_SERIES,
    Block,
    Picture,
    Section,
    legend_of,
    length_block,
    not_drawn,
)
from pcbench.report.page.tables import Column, identity, table
from pcbench.report.reading.results import FULL_HUE, Entry, Results, Series
from pcbench.report.wording import number
from pcbench.suites.labels import labels
from pcbench.suites.parameters import flat

__all__ = ["rates"]


def rates(results: Results) -> Section | None:
    """Tokens/s by length, chunks/s by a parameter; None when no cell has a rate."""
    shown = [e for e in results.shown_in("rates") if e.timed and _has_rates(e)]
    if not shown:
        return None
    blocks = []
    if any(e.record.prefill_tokens_per_s for e in shown):
        blocks.append(
            length_block(
                "tokens",
                [e for e in shown if e.record.prefill_tokens_per_s],
                lambda e: _point(e, e.series, e.record.context_tokens or 0, e.record.prefill_tokens_per_s),
                lambda e: f"{number(e.record.prefill_tokens_per_s)} tokens/s",
                "time",
                "prefill, tokens/s",
                title="Prefill",
                notes=["Bars from the rates at the 90th and the 10th percentile of the times. Higher is better."],
            )
        )
    blocks += _by_parameter(results, [e for e in shown if e.record.chunks_per_s])
    columns = [
        *identity(results),
        Column("prefill (tokens/s)", lambda e: number(e.record.prefill_tokens_per_s)),
        Column("chunks/s", lambda e: number(e.record.chunks_per_s)),
        Column("chunks", lambda e: number(e.record.chunks)),
        Column("tokens a chunk", lambda e: number(e.record.chunk_tokens)),
        Column("repeats", lambda e: number(e.record.repeats)),
    ]
    return Section(
        "rates",
        "Throughput",
        "Prompt tokens and chunks over the median prefill time.",
        [*blocks, Block(tables=[table("Throughput, one row a cell", columns, shown)])],
    )


def _has_rates(entry: Entry) -> bool:
    r = entry.record
    return r.prefill_tokens_per_s is not None or r.chunks_per_s is not None


def _point(entry: Entry, series: Series, x: int, rate: float | None) -> Point:
    """Rates go down as times go up: the ends change places."""
    r = entry.record
    if not rate or not r.ms_p10 or not r.ms_p50 or not r.ms_p90:
        return Point(series, x, rate)
    return Point(series, x, rate, rate * r.ms_p50 / r.ms_p90, rate * r.ms_p50 / r.ms_p10)


def _by_parameter(results: Results, shown: Sequence[Entry]) -> list[Block]:
    """Chunks/s against each whole-number parameter that takes several values while the others stay."""
    names = dict.fromkeys(name for varying in results.varying_parameters.values() for name in varying)
    blocks = [_parameter(f"parameter{i}", name, shown) for i, name in enumerate(names)]
    return [block for block in blocks if block is not None]


def _parameter(id_: str, name: str, shown: Sequence[Entry]) -> Block | None:
    lines: dict[str, dict[str, list[Entry]]] = {}
    having = [entry for entry in shown if _value(entry, name) is not None]
    others = [replace(e.record, method_config=_without(e.record.method_config, name.split("."))) for e in having]
    for entry, called in zip(having, labels(others), strict=True):
        label = f"{called}, {entry.record.context_tokens or 0:,} tokens"
        lines.setdefault(entry.panel, {}).setdefault(label, []).append(entry)
    several = {p: {k: v for k, v in found.items() if len(v) > 1} for p, found in lines.items()}
    panels = {panel: found for panel, found in several.items() if found}
    if not panels:
        return None
    drawn_labels = dict.fromkeys(label for found in panels.values() for label in found)
    # a line joins what has several colours elsewhere
    series = {label: Series(i, label, FULL_HUE) for i, label in enumerate(drawn_labels)}
    pictures, used = [], list[Series]()
    for i, (panel, found) in enumerate(list(panels.items())[:MAX_PANELS]):
        drawn = dict(list(found.items())[:MAX_SERIES])
        points = [
            _point(e, series[label], _value(e, name) or 0, e.record.chunks_per_s)
            for label, entries in drawn.items()
            for e in entries
        ]
        spoken = f"chunks/s against {name}, {panel}"
        svg = against_length(f"{id_}-{i}", spoken, points, "time", "chunks/s", xlabel=name)
        pictures.append(Picture(panel, svg, " ".join(_said(label, entries, name) for label, entries in drawn.items())))
        used += [series[label] for label in drawn]
    left_out = not_drawn(max(map(len, panels.values())), len(panels))
    return Block(f"Chunks a second against {name}", pictures, legend_of(used), left_out)


def _value(entry: Entry, name: str) -> int | None:
    """A parameter that can stand on a logarithmic axis."""
    value = dict(flat(entry.record.method_config)).get(name)
    return value if isinstance(value, int) and value > 0 and not isinstance(value, bool) else None


def _without(config: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """The config without a parameter."""
    key, *inner = path
    if not inner:
        return {name: value for name, value in config.items() if name != key}
    return config | {key: _without(config[key], inner)}


def _said(label: str, entries: Sequence[Entry], name: str) -> str:
    found = sorted((_value(e, name) or 0, e.record.chunks_per_s) for e in entries)
    return f"{label}: {', '.join(f'{number(rate)} at {value:,}' for value, rate in found)}."
