"""Accuracy against speed and memory, with the choices that no other beats in both."""

from collections.abc import Sequence

from pcbench.report.figures import Dot, scatter
from pcbench.report.page.parts import MAX_SERIES, Block, Picture, Section, legend_of, not_drawn
from pcbench.report.page.tables import Align, Table, filled
from pcbench.report.reading.results import Results
from pcbench.report.verdict.tradeoffs import MEASURES, Choice, Measure, Tradeoff, averaged, direct, front
from pcbench.report.wording import Estimate, interval, number, points_span, signed

__all__ = ["tradeoff"]

# figures a gain, choices said in words
FIGURES, SAID = 3, 6


def tradeoff(results: Results) -> Section | None:
    """A figure a gain and place, one table; None when no cell has both a change of accuracy and a gain."""
    found = {measure: _of(results, measure) for measure in MEASURES}
    used = {measure: ones for measure, ones in found.items() if ones}
    if not used:
        return None
    drawn = [one for ones in used.values() for one in _worth_drawing(ones)]
    pictures = [_picture(f"tradeoff-{i}", one) for i, one in enumerate(drawn)]
    notes = not_drawn(max((len(one.choices) for one in drawn), default=0), 0)
    if drawn and len(drawn) < sum(map(len, used.values())):
        notes.append("Of every workload one length is drawn, and none with a single choice; the table has all.")
    figures = Block("", pictures, legend_of(c.series for one in drawn for c in _drawn(one)), notes)
    lead = "Score minus that of exact full attention against what is gained over it. "
    if drawn:
        lead += (
            "The ring at 0 and 1× is full attention; up and right is better. Filled choices are on the Pareto front, "
            "which no other choice nor full attention beats in both; it is drawn through the values, so look at the "
            "intervals before preferring one."
        )
    else:
        lead += "There is one choice beside full attention, and no chart for one point."
    return Section("tradeoff", "Accuracy against speed and memory", lead, [figures, Block(tables=[_table(used)])])


def _of(results: Results, measure: Measure) -> list[Tradeoff]:
    mean = averaged(results, measure)
    return [*([] if mean is None else [mean]), *direct(results, measure)]


def _worth_drawing(found: Sequence[Tradeoff]) -> list[Tradeoff]:
    """The mean, then of every workload the length with the most choices, the longest of these."""
    best: dict[tuple[str, ...], Tradeoff] = {}
    for one in sorted(found, key=lambda t: (len(t.choices), t.tokens)):
        best[one.group] = one
    ranked = sorted(best.values(), key=lambda t: (t.group != (), -len(t.choices)))
    return [one for one in ranked if len(one.choices) > 1][:FIGURES]


def _drawn(one: Tradeoff) -> list[Choice]:
    """The front first: it must not be left out."""
    best = front(one.choices)
    return [*best, *(c for c in one.choices if c not in best)][:MAX_SERIES]


def _picture(name: str, one: Tradeoff) -> Picture:
    best = front(one.choices)
    dots = [Dot(c.series, Estimate(*c.change[:3]), c.gain, c in best) for c in _drawn(one)]
    gain = one.measure.title
    svg = scatter(name, f"{one.title}: {gain}", dots, "score minus full attention's, points", gain)
    said = [
        f"{c.series.label} {signed(c.change.mean, 1)} points {points_span(c.change)} ({c.change.words()}) "
        f"for {number(c.gain.value, digits=3)}×"
        for c in best[:SAID]
    ]
    more = f"; {len(best) - SAID} more in the table" if len(best) > SAID else ""
    summary = f"On the front: {'; '.join(said)}{more}." if best else "Full attention beats every choice."
    return Picture(f"{one.measure.short}: {one.title}", svg, summary)


def _table(found: dict[Measure, list[Tradeoff]]) -> Table:
    """One row a choice at a place, two columns a gain."""
    titles: list[tuple[str, Align]] = [("where", "text"), ("choice", "text"), ("minus full's (points)", "number")]
    titles += [("95 %", "text"), ("reading", "text")]
    rows: dict[tuple[str, str], list[str]] = {}
    for i, (measure, ones) in enumerate(found.items()):
        titles += [(measure.title, "number"), (f"{measure.short}, 95 %", "text"), (f"{measure.short}: front", "text")]
        for one in ones:
            best = front(one.choices)
            for c in one.choices:
                row = rows.setdefault((one.title, c.series.label), [*_change(one, c), *[""] * 3 * len(found)])
                gain = interval(c.gain) if c.gain.low is not None else ""
                row[5 + 3 * i : 8 + 3 * i] = [number(c.gain.value), gain, "yes" if c in best else "no"]
    return filled("Trade-offs, one row a choice", titles, list(rows.values()))


def _change(one: Tradeoff, choice: Choice) -> list[str]:
    change = choice.change
    return [one.title, choice.series.label, signed(change.mean, 2), points_span(change), change.words()]
