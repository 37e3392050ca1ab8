"""Scores with their scorer, what changed against full attention, and whether the needle's chunk was kept."""

from pcbench.report.figures import Point
from pcbench.report.page.parts import Block, Section, by_panel, length_block
from pcbench.report.page.rows import rows_block
from pcbench.report.page.tables import Column, identity, table
from pcbench.report.reading.results import Entry, Results
from pcbench.report.sections.answers.depths import depths
from pcbench.report.verdict.changes import Change, score_change
from pcbench.report.wording import Estimate, number, percent, points_span, signed, spread
from pcbench.statistics import wilson_interval

__all__ = ["accuracy"]


def accuracy(results: Results) -> Section | None:
    """A block a scorer, changes against full attention, kept chunks, needles by depth; None without any."""
    shown = [
        e
        for e in results.shown_in("accuracy")
        if e.score is not None or (e.usable and e.record.key_chunk_kept is not None)
    ]
    if not shown:
        return None
    changes = {e: change for e in shown if (change := score_change(results, e)) is not None}
    columns = [
        *identity(results),
        Column("score (×100)", lambda e: percent(e.record.score) if e.score else ""),
        Column("score, 95 %", lambda e: spread(e.score.low, e.score.high) if e.score else "", "text"),
        Column("scorer", lambda e: (e.record.scorer or "") if e.score else "", "text"),
        Column("score is", lambda e: (e.record.score_name or "") if e.score else "", "text"),
        Column("prompts", lambda e: number(e.record.n_samples) if e.score else ""),
        Column("minus full's (points)", lambda e: signed(changes[e].difference.mean, 2) if e in changes else ""),
        Column("minus full's, 95 %", lambda e: _span(changes.get(e)), "text"),
        Column("reading", lambda e: _reading(changes.get(e)), "text"),
        Column("prompt by prompt", lambda e: _how(changes.get(e)), "text"),
        Column("McNemar p", lambda e: _p(changes.get(e))),
        Column("needle's chunk kept (×100)", lambda e: percent(e.record.key_chunk_kept)),
        Column("kept, 95 %", lambda e: spread(*_kept_interval(e)), "text"),
        Column("prompts with a choice", lambda e: number(_prompts(e)) if e.record.key_chunk_kept is not None else ""),
        Column("chunks kept", lambda e: number(e.record.chunks_kept)),
        Column("chunks", lambda e: number(e.record.chunks)),
        Column("task", lambda e: e.record.task or "", "text"),
        Column("texts of the prompts", lambda e: e.record.prompts or "", "text"),
    ]
    blocks = [*_scores(shown), *_changes(changes), *_choices(shown), *depths(results)]
    return Section(
        "accuracy",
        "Accuracy",
        "Shown ×100, with the scorer that made the number and 95 % intervals. "
        "Scores of different scorers are not comparable; few prompts leave wide intervals, and too few cannot tell.",
        [*blocks, Block(tables=[table("Accuracy, one row a cell", columns, shown, filterable=True)])],
    )


def _scores(shown: list[Entry]) -> list[Block]:
    """A block a scorer: against length where a workload has several, else a row a workload."""
    scored = [e for e in shown if e.score is not None]
    long = {panel for panel, rows in by_panel(scored).items() if len({e.record.context_tokens for e in rows}) > 1}
    blocks = []
    for i, scorer in enumerate(sorted({e.record.scorer or "" for e in scored})):
        rows = [e for e in scored if e.record.scorer == scorer]
        label, title = f"{rows[0].record.score_name or 'score'} × 100", f"Score by {scorer}"
        against, single = [e for e in rows if e.panel in long], [e for e in rows if e.panel not in long]
        if against:
            blocks.append(length_block(f"score{i}", against, _score_point, _say_score, "share", label, title=title))
        if single:
            blocks.append(rows_block(f"rows{i}", single, _hundred, _say_shortly, label, title="" if against else title))
    return blocks


def _changes(changes: dict[Entry, Change]) -> list[Block]:
    """Score minus full attention's, a row a workload and length."""
    if not changes:
        return []
    found = rows_block(
        "change",
        list(changes),
        lambda e: Estimate(*changes[e].difference[:3]),
        lambda e: f"{signed(changes[e].difference.mean, 1)} points {_span(changes[e])} ({_reading(changes[e])})",
        "score minus full's, points",
        title="Score minus full attention's",
        neutral=0.0,
    )
    return [found]


def _hundred(entry: Entry) -> Estimate:
    r = entry.record
    return Estimate(
        (r.score or 0.0) * 100, *(None if x is None else x * 100 for x in (r.score_ci_low, r.score_ci_high))
    )


def _score_point(entry: Entry) -> Point:
    return Point(entry.series, entry.record.context_tokens or 0, *_hundred(entry))


def _say_score(entry: Entry) -> str:
    r = entry.record
    return f"{percent(r.score)} {spread(r.score_ci_low, r.score_ci_high)} ({r.scorer}, {number(r.n_samples)} prompts)"


def _say_shortly(entry: Entry) -> str:
    return f"{percent(entry.record.score)} {spread(entry.record.score_ci_low, entry.record.score_ci_high)}"


def _span(change: Change | None) -> str:
    return "" if change is None else points_span(change.difference)


def _reading(change: Change | None) -> str:
    return "" if change is None else change.difference.words()


def _how(change: Change | None) -> str:
    return "" if change is None else "paired" if change.paired else "unpaired"


def _p(change: Change | None) -> str:
    return "" if change is None or change.difference.p is None else number(change.difference.p, digits=3)


def _choices(shown: list[Entry]) -> list[Block]:
    known = [e for e in shown if e.record.key_chunk_kept is not None]
    if not known:
        return []
    ylabel = "needle's chunk kept × 100"
    return [length_block("kept", known, _kept_point, _say_kept, "share", ylabel, title="Needle's chunk kept")]


def _prompts(entry: Entry) -> int | None:
    return entry.choices or entry.record.n_samples


def _kept_interval(entry: Entry) -> tuple[float | None, float | None]:
    n, share = _prompts(entry), entry.record.key_chunk_kept
    return (None, None) if not n or share is None else wilson_interval(share * n, n)


def _kept_point(entry: Entry) -> Point:
    share, (low, high) = entry.record.key_chunk_kept, _kept_interval(entry)
    value, low, high = (None if x is None else x * 100 for x in (share, low, high))
    return Point(entry.series, entry.record.context_tokens or 0, value, low, high)


def _say_kept(entry: Entry) -> str:
    return (
        f"{percent(entry.record.key_chunk_kept)} {spread(*_kept_interval(entry))} ({number(_prompts(entry))} prompts)"
    )
