"""Perplexity against length, what methods lose beside full attention, and the loss by position."""

from collections.abc import Iterator, Sequence

from pcbench.differences import Difference
from pcbench.report.figures import Point, against_length
from pcbench.report.page.parts import (
    MAX_PANELS,
    Block,
    Picture,
    Section,
    by_panel,
    legend_of,
    length_block,
    not_drawn,
    series_limit,
)
from pcbench.report.page.rows import rows_block
from pcbench.report.page.tables import Column, identity, parity, table
from pcbench.report.reading.results import Entry, Results, Series
from pcbench.report.verdict.losses import loss_change, nats_span
from pcbench.report.wording import Estimate, interval, number, signed
from pcbench.statistics import perplexity as of_loss

__all__ = ["perplexity"]

CURVES = (
    "Mean loss of equal parts of the longest windows of each series, at the end of the part, of the windows that were "
    "read whole. Where it rises, the model no longer makes use of what it has read, or is beyond its trained length."
)


def perplexity(results: Results) -> Section | None:
    """Figures of what was measured, and a row for every cell; None where nothing was."""
    entries = results.shown_in("perplexity")
    shown = [e for e in entries if e.loss is not None]
    if not shown:
        return None
    changes = {e: change for e in shown if (change := loss_change(e)) is not None}
    columns = [
        *identity(results, status=len(shown) < len(entries)),
        Column("parity (error / bound)", lambda e: parity(e) if e.loss else ""),
        Column("perplexity", lambda e: number(_of(e).value) if e.loss else ""),
        Column("perplexity, 95 %", lambda e: interval(_of(e)) if e.loss else "", "text"),
        Column("loss (nats a token)", lambda e: number(e.loss.value) if e.loss else ""),
        Column("minus full's (nats a token)", lambda e: signed(changes[e].mean, 4) if e in changes else ""),
        Column("minus full's, 95 %", lambda e: nats_span(changes[e]) if e in changes else "", "text"),
        Column("reading", lambda e: _reading(changes.get(e)), "text"),
        Column("windows", lambda e: number(e.record.n_samples) if e.loss else ""),
        Column("scored tokens of each", lambda e: number(e.record.scored_tokens) if e.loss else ""),
        Column("tokens kept", lambda e: number(e.record.kept_tokens) if e.loss else ""),
        Column("KV cache of the prompt (bytes)", lambda e: number(e.record.kv_bytes_prompt) if e.loss else ""),
        Column("chunks kept", lambda e: number(e.record.chunks_kept) if e.loss else ""),
        Column("text / query + scored tokens, stride", lambda e: e.record.task or "", "text"),
        Column("reason", lambda e: e.record.reason or "", "text"),
    ]
    figures = length_block("perplexity", shown, _point, _say, "time", "perplexity")
    rows = table("Perplexity, one row a cell", columns, entries, filterable=True)
    return Section(
        "perplexity",
        "Perplexity",
        "e to the mean loss of the last tokens of each window, given what the method kept of all before them, with "
        "95 % intervals over windows, which in one run end at the same tokens at every length. Lower is better; what "
        "another tokenizer or another text gives is not comparable.",
        [figures, *_changes(changes), *_positions(shown), Block(tables=[rows])],
    )


def _of(entry: Entry) -> Estimate:
    """Perplexity with its interval; of a loss beyond all numbers infinite."""
    loss = entry.loss or Estimate(0.0, None, None)
    value = of_loss(loss.value)
    low, high = (None if x is None else of_loss(x) for x in (loss.low, loss.high))
    return Estimate(float("inf") if value is None else value, low, high)


def _point(entry: Entry) -> Point:
    found = _of(entry)
    value = found.value if found.value < float("inf") else None
    return Point(entry.series, entry.record.context_tokens or 0, value, found.low, found.high)


def _say(entry: Entry) -> str:
    return f"{number(_of(entry).value)} {interval(_of(entry))} ({number(entry.record.n_samples)} windows)"


def _reading(change: Difference | None) -> str:
    return "" if change is None else change.words()


def _changes(changes: dict[Entry, Difference]) -> list[Block]:
    """Loss minus full attention's, a row a length."""
    if not changes:
        return []
    found = rows_block(
        "losschange",
        list(changes),
        lambda e: Estimate(*changes[e][:3]),
        lambda e: f"{signed(changes[e].mean, 4)} nats {nats_span(changes[e])} ({changes[e].words()})",
        "loss minus full's, nats a token",
        title="Loss minus full attention's",
        neutral=0.0,
    )
    return [found]


def _positions(shown: Sequence[Entry]) -> list[Block]:
    """A figure a panel: the loss inside the longest windows of every series."""
    panels = {panel: _longest(entries) for panel, entries in by_panel(shown).items()}
    panels = {panel: entries for panel, entries in panels.items() if entries}
    if not panels:
        return []
    limit, pictures, drawn = series_limit(shown), [], set[Series]()
    for i, (panel, entries) in enumerate(list(panels.items())[:MAX_PANELS]):
        some = entries[:limit]
        drawn |= {e.series for e in some}
        points = [Point(e.series, place, loss) for e in some for place, loss in _parts(e)]
        spoken = f"loss by position, {panel}"
        svg = against_length(
            f"position-{i}", spoken, points, "time", "loss, nats a token", xlabel="position in the window, tokens"
        )
        pictures.append(Picture(panel, svg, "; ".join(map(_say_curve, some)) + "."))
    most = max(map(len, panels.values()))
    return [Block("Loss by position", pictures, legend_of(drawn), [CURVES, *not_drawn(most, len(panels), limit)])]


def _longest(entries: Sequence[Entry]) -> list[Entry]:
    """Of each series the entry of the longest windows that has a loss by position."""
    found: dict[Series, Entry] = {}
    for entry in entries:
        before = found.get(entry.series)
        if entry.record.nll_by_position and (before is None or _tokens(before) < _tokens(entry)):
            found[entry.series] = entry
    return list(found.values())


def _tokens(entry: Entry) -> int:
    return entry.record.context_tokens or 0


def _parts(entry: Entry) -> Iterator[tuple[int, float]]:
    """Where each part ends, and its loss."""
    losses = entry.record.nll_by_position or []
    for i, loss in enumerate(losses, 1):
        yield i * _tokens(entry) // len(losses), loss


def _say_curve(entry: Entry) -> str:
    losses = entry.record.nll_by_position or [0.0]
    parts = f"{number(losses[0])} in the first of {len(losses)} parts, {number(losses[-1])} in the last"
    return f"{entry.series.label} at {_tokens(entry):,} tokens: {parts}"
