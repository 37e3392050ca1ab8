"""Which method at which budget: scores and times against bytes of keys and values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pcbench.report.figures import Spot, choices
from pcbench.report.page.parts import Block, Picture, Section, legend_of
from pcbench.report.page.tables import Align, Table, filled
from pcbench.report.reading.results import Results, Series
from pcbench.report.verdict.budgets import MIB, Option, Place, front, places, words
from pcbench.report.verdict.changes import score_change
from pcbench.report.wording import Estimate, interval, number, percent, points_span, signed, spread
from pcbench.suites.labels import title

__all__ = ["budgets"]

# places that are drawn and said in words, choices on a front that are said
DRAWN, SAID = 3, 6
Value = Callable[[Option], Estimate | None]


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

    def known(self, place: Place) -> list[tuple[Option, Estimate, Estimate, bool]]:
        """What has both, full attention last, and whether it is on the front."""
        every = ((o, self.x(o), self.y(o)) for o in (*place.options, place.full))
        both = [(o, x, y) for o, x, y in every if x is not None and y is not None]
        best = front([(x.value, y.value) for _, x, y in both], most=self.most)
        return [(*one, on) for one, on in zip(both, best, strict=True)]


def _times(value: Estimate | None, factor: float) -> Estimate | None:
    return value and Estimate(*(None if v is None else v * factor for v in value))  # type: ignore[arg-type]


def _kv(option: Option) -> Estimate:
    return Estimate(option.kv_bytes * MIB, None, None)


def _score(option: Option) -> Estimate | None:
    return _times(option.entry.score, 100)


def _decode(option: Option) -> Estimate | None:
    return option.entry.decode


def _prefill(option: Option) -> Estimate | None:
    return _times(option.entry.prefill, 1e-3)


KV, SCORE = "keys and values, MiB", "score (×100)"
VIEWS = (
    View("score", "Score against bytes", _kv, KV, _score, SCORE, "share"),
    View("decode", "Decoding against bytes", _kv, KV, _decode, "decode, ms a token", "time"),
    View("prefill", "Score against prefill", _prefill, "prefill, seconds", _score, SCORE, "share"),
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
        "attention beats in both; it is drawn through the values. Bytes are those of the prompt, without room for an "
        "answer where records tell them apart. Words name a best one only where its interval meets no other, else "
        "nobody can tell.",
        [Block("", pictures, legend_of(lines.values()), notes), Block(tables=[_table(results, found)])],
    )


def _line(lines: dict[str, Series], option: Option) -> Series:
    """One line a method, whatever its parameters are, with the marker of the first."""
    method, series = option.entry.record.method, option.entry.series
    return lines.setdefault(method, Series(series.index, title(method), series.hue))


def _picture(name: str, place: Place, view: View, lines: dict[str, Series]) -> Picture | None:
    known = view.known(place)
    if len({o.entry.record.method for o, *_ in known if o is not place.full}) < 2:
        return None
    spots = [Spot(None if o is place.full else _line(lines, o), x, y, on) for o, x, y, on in known]
    svg = choices(
        name, f"{view.short}: {place.title}", spots, view.scale, view.xlabel, view.ylabel, alike=view.x is _kv
    )
    ahead = sorted(((x.value, y.value, o.label) for o, x, y, on in known if on), key=lambda one: one[:2])
    unit = "" if view.most else " ms"
    said = [f"{label} {number(y)}{unit} at {number(x)}" for x, y, label in ahead[:SAID]]
    more = f"; {len(ahead) - SAID} more in the table" if len(ahead) > SAID else ""
    return Picture(f"{view.short}: {place.title}", svg, f"On the front ({view.xlabel}): {'; '.join(said)}{more}.")


def _table(results: Results, found: Sequence[Place]) -> Table:
    """One row a choice at a place."""
    titles: list[tuple[str, Align]] = [
        ("where", "text"), ("choice", "text"), ("KV (MiB)", "number"), ("KV, times smaller (×)", "number"),
        ("score (×100)", "number"), ("score, 95 %", "text"), ("minus full's (points)", "number"),
        ("minus full's, 95 %", "text"), ("reading", "text"), ("decode (ms/token)", "number"), ("decode, 95 %", "text"),
        ("prefill (ms)", "number"), ("prefill, 95 %", "text"), *((f"{v.short}: front", "text") for v in VIEWS),
    ]  # fmt: skip
    rows = [row for place in found for row in _rows(results, place)]
    return filled("Choices by budget, one row a choice", titles, rows)


def _rows(results: Results, place: Place) -> list[list[str]]:
    fronts = [{o.label: "yes" if on else "no" for o, _, _, on in view.known(place)} for view in VIEWS]
    return [
        [place.title, o.label, *_numbers(results, place, o), *(ones.get(o.label, "") for ones in fronts)]
        for o in (*place.options, place.full)
    ]


def _numbers(results: Results, place: Place, option: Option) -> list[str]:
    entry = option.entry
    score, change = entry.score, score_change(results, entry)
    found = [number(option.kv_bytes, MIB), number(place.gain(option))]
    found += ["", ""] if score is None else [percent(score.value), spread(score.low, score.high)]
    if change is None:
        found += ["", "", ""]
    else:
        difference = change.difference
        found += [signed(difference.mean, 2), points_span(difference), difference.words()]
    for value in (entry.decode, entry.prefill):
        found += ["", ""] if value is None else [number(value.value), interval(value)]
    return found
