"""Needles by context length and depth: where an answer or its chunk is lost."""

from collections.abc import Callable, Sequence

from pcbench.report.figures import heat
from pcbench.report.page.parts import Block, Picture
from pcbench.report.page.tables import Align, Table, filled
from pcbench.report.reading.prompts import DEPTHS, Depth
from pcbench.report.reading.results import Entry, Results
from pcbench.report.wording import compact, percent

__all__ = ["depths"]

ROWS = [f"{100 * i // DEPTHS}–{100 * (i + 1) // DEPTHS} %" for i in range(DEPTHS)]
Line = tuple[str, str]
Share = Callable[[Depth], float | None]
MAPS = 6


def depths(results: Results) -> list[Block]:
    """A heat map a panel and series: share of the score, and share of needles whose chunk was kept."""
    counted = {e: found for e in results.shown_in("accuracy") if e.usable and (found := _of(results, e))}
    if not counted:
        return []
    lines: dict[Line, list[Entry]] = {}
    for entry in counted:
        lines.setdefault((entry.panel, entry.series.label), []).append(entry)
    found: list[tuple[float, str, str, Line, Share]] = []
    for i, (line, entries) in enumerate(lines.items()):
        for name, said, share in (("depth", "score", _score), ("depthkept", "needle's chunk kept", _kept)):
            shares = [x for e in entries for depth in counted[e] if (x := share(depth)) is not None]
            if shares:
                found.append((min(shares), f"{name}-{i}", said, line, share))
    # where most is lost comes first
    ranked = sorted(found, key=lambda one: one[0])
    maps = [_picture(name, said, line, lines[line], counted, share) for _, name, said, line, share in ranked[:MAPS]]
    notes = ["Mean × 100 of the prompts whose needle begins in that part of the context; the table says of how many."]
    if len(found) > MAPS:
        notes.append(f"{MAPS} of {len(found)} maps are drawn, those that lose most first; the table holds all.")
    return [Block("Needles by length and depth", maps, [], notes, [_table(lines, counted)])]


def _of(results: Results, entry: Entry) -> list[Depth] | None:
    return results.run_of(entry).prompts.depths.get(entry.record.cell)


def _score(depth: Depth) -> float | None:
    return depth.score / depth.scored if depth.scored else None


def _kept(depth: Depth) -> float | None:
    return depth.kept / depth.chosen if depth.chosen else None


def _picture(
    name: str,
    said: str,
    line: Line,
    entries: Sequence[Entry],
    counted: dict[Entry, list[Depth]],
    share: Share,
) -> Picture:
    lengths = [compact(e.record.context_tokens or 0) for e in entries]
    shares = [[share(counted[e][row]) for e in entries] for row in range(DEPTHS)]
    title = f"{said}: {line[1]}, {line[0]}"
    svg = heat(
        name, f"{title}, by context length and depth of the needle", shares, ROWS, lengths, "context tokens", "depth"
    )
    known = {
        f"{percent(value)} at depth {ROWS[row]} of {lengths[column]}": value
        for row, values in enumerate(shares)
        for column, value in enumerate(values)
        if value is not None
    }
    worst = min(known, key=lambda text: known[text])
    same = len(set(known.values())) == 1
    return Picture(title, svg, f"{percent(known[worst])} everywhere." if same else f"Least: {worst}.")


def _table(lines: dict[Line, list[Entry]], counted: dict[Entry, list[Depth]]) -> Table:
    titles: list[tuple[str, Align]] = [("series", "text"), ("workload", "text"), ("context tokens", "number")]
    titles += [("prompts by depth", "text"), *((f"score at {row}", "number") for row in ROWS)]
    titles += [(f"needle's chunk kept at {row}", "number") for row in ROWS]
    rows = []
    for (panel, label), entries in lines.items():
        for e in entries:
            found = counted[e]
            prompts = ", ".join(f"{d.prompts:,}" for d in found)
            shares = [percent(share(d)) for share in (_score, _kept) for d in found]
            rows.append([label, panel, f"{e.record.context_tokens or 0:,}", prompts, *shares])
    return filled("Needles by length and depth, one row a cell", titles, rows)
