"""Which method at which budget: scores and times against bytes of keys and values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pcbench.report.figures import Spot, choices
from pcbench.report.page.parts import Block, Picture, Section, legend_of
from pcbench.report.page.tables import Align, Table, filled
from pcbench.report.reading.results import Entry, Results, Series
from pcbench.report.verdict.budgets import MIB, Place, front, places, words
from pcbench.report.verdict.changes import score_change
from pcbench.report.wording import Estimate, interval, number, percent, points_span, signed, spread

__all__ = ["budgets"]

# places that are drawn and said in words
DRAWN = 3
Value = Callable[[Entry], Estimate | None]


@dataclass(frozen=True)
class View:
    """A figure of a place: what a choice takes, where less is better, against what it gives.

    Args:
        name: of the figure; short: its title.
        x: what is taken; xlabel: with the unit.
        y: what is given; ylabel: with the unit.
        scale: of y: share, where more is better, or time, where less is.
    """

    name: str
    short: str
    x: Value
    xlabel: str
    y: Value
    ylabel: str
    scale: Literal["share", "time"]

    @property
    def most(self) -> bool:
        return self.scale == "share"

    def known(self, entries: Sequence[Entry]) -> list[tuple[Entry, Estimate, Estimate]]:
        """Entries that have both."""
        both = ((e, self.x(e), self.y(e)) for e in entries)
        return [(e, x, y) for e, x, y in both if x is not None and y is not None]


def _times(value: Estimate | None, factor: float) -> Estimate | None:
    return value and Estimate(*(None if v is None else v * factor for v in value))  # type: ignore[arg-type]


def _kv(entry: Entry) -> Estimate | None:
    return Estimate(entry.record.kv_bytes * MIB, None, None) if entry.record.kv_bytes else None


def _score(entry: Entry) -> Estimate | None:
    return _times(entry.score, 100)


KV, SCORE = "keys and values, MiB", "score (×100)"
VIEWS = (
    View("score", "Score against bytes", _kv, KV, _score, SCORE, "share"),
    View("decode", "Decoding against bytes", _kv, KV, lambda e: e.decode, "decode, ms a token", "time"),
    View(
        "prefill",
        "Score against prefill",
        lambda e: _times(e.prefill, 1e-3),
        "prefill, seconds",
        _score,
        SCORE,
        "share",
    ),
)


def budgets(results: Results) -> Section | None:
    """Three figures a place, what they say, one table; None without two methods beside full attention."""
    found = places(results)
    drawn = found[:DRAWN]
    lines: dict[str, Series] = {}
    pictures = [
        picture
        for i, place in enumerate(drawn)
        for view in VIEWS
        if (picture := _picture(f"budgets-{view.name}-{i}", place, view, lines)) is not None
    ]
    if not pictures:
        return None
    notes = [sentence for place in drawn for sentence in words(place)]
    if len(found) > DRAWN:
        notes.append(f"{DRAWN} of {len(found)} workloads and lengths are drawn; the table holds all.")
    return Section(
        "budgets",
        "Which method at which budget",
        "Every choice beside full attention (the ring) at what it holds and takes: left is better. A line joins the "
        "budgets of a method. Filled choices are on the Pareto front of their figure, which no other choice nor full "
        "attention beats in both; it is drawn through the values. Words name a best one only where its interval meets "
        "no other, else nobody can tell.",
        [Block("", pictures, legend_of(lines.values()), notes), Block(tables=[_table(results, found)])],
    )


def _line(lines: dict[str, Series], entry: Entry) -> Series:
    """One colour a method, whatever its parameters are."""
    return lines.setdefault(entry.record.method, Series(len(lines), entry.record.method))


def _picture(name: str, place: Place, view: View, lines: dict[str, Series]) -> Picture | None:
    known = view.known([*place.choices, place.full])
    if len({e.record.method for e, _, _ in known if not e.record.is_full}) < 2:
        return None
    best = front([(x.value, y.value) for _, x, y in known], most=view.most)
    spots = [
        Spot(None if e.record.is_full else _line(lines, e), x, y, on) for (e, x, y), on in zip(known, best, strict=True)
    ]
    svg = choices(name, f"{view.short}: {place.title}", spots, view.scale, view.xlabel, view.ylabel)
    ahead = [(e, x, y) for (e, x, y), on in zip(known, best, strict=True) if on]
    unit = "" if view.most else " ms"
    said = [
        f"{e.series.label} {number(y.value)}{unit} at {number(x.value)}"
        for e, x, y in sorted(ahead, key=lambda o: o[1].value)
    ]
    return Picture(f"{view.short}: {place.title}", svg, f"On the front ({view.xlabel}): {'; '.join(said)}.")


def _table(results: Results, found: Sequence[Place]) -> Table:
    """One row a choice at a place."""
    titles: list[tuple[str, Align]] = [
        ("where", "text"), ("choice", "text"), ("KV (MiB)", "number"), ("of full's KV (%)", "number"),
        ("score (×100)", "number"), ("score, 95 %", "text"), ("minus full's (points)", "number"),
        ("minus full's, 95 %", "text"), ("reading", "text"), ("decode (ms/token)", "number"), ("decode, 95 %", "text"),
        ("prefill (ms)", "number"), ("prefill, 95 %", "text"), *((f"{v.short}: front", "text") for v in VIEWS),
    ]  # fmt: skip
    rows = [row for place in found for row in _rows(results, place)]
    return filled("Choices by budget, one row a choice", titles, rows)


def _rows(results: Results, place: Place) -> list[list[str]]:
    every = [*place.choices, place.full]
    fronts = []
    for view in VIEWS:
        known = view.known(every)
        best = front([(x.value, y.value) for _, x, y in known], most=view.most)
        fronts.append({id(e): "yes" if on else "no" for (e, _, _), on in zip(known, best, strict=True)})
    return [
        [place.title, e.series.label, *_numbers(results, place, e), *(ones.get(id(e), "") for ones in fronts)]
        for e in every
    ]


def _numbers(results: Results, place: Place, entry: Entry) -> list[str]:
    score, change = entry.score, score_change(results, entry)
    found = [number(entry.record.kv_bytes, MIB), percent(place.share(entry))]
    found += ["", ""] if score is None else [percent(score.value), spread(score.low, score.high)]
    if change is None:
        found += ["", "", ""]
    else:
        difference = change.difference
        found += [signed(difference.mean, 2), points_span(difference), difference.words()]
    for value in (entry.decode, entry.prefill):
        found += ["", ""] if value is None else [number(value.value), interval(value)]
    return found
