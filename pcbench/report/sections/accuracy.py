"""Scores with their scorer, and whether the needle's chunk was kept."""

from pcbench.report.page import Block, Section, length_block
from pcbench.report.plots import Point
from pcbench.report.results import Entry, Results
from pcbench.report.tables import Column, identity, table
from pcbench.report.wording import number, percent, spread
from pcbench.statistics import wilson_interval

__all__ = ["accuracy"]


def accuracy(results: Results) -> Section | None:
    """One block a scorer, and one about kept chunks; None without either."""
    blocks = [*_scores(results), *_choices(results)]
    if not blocks:
        return None
    columns = [
        *identity(results),
        Column("score (×100)", lambda e: percent(e.record.score) if e.score else ""),
        Column("score, 95 %", lambda e: spread(e.score.low, e.score.high) if e.score else "", "text"),
        Column("scorer", lambda e: (e.record.scorer or "") if e.score else "", "text"),
        Column("score is", lambda e: (e.record.score_name or "") if e.score else "", "text"),
        Column("prompts", lambda e: number(e.record.n_samples) if e.score else ""),
        Column("needle's chunk kept (×100)", lambda e: percent(e.record.key_chunk_kept)),
        Column("kept, 95 %", lambda e: spread(*_kept_interval(e)), "text"),
        Column("prompts with a choice", lambda e: number(_prompts(e)) if e.record.key_chunk_kept is not None else ""),
        Column("chunks kept", lambda e: number(e.record.chunks_kept)),
        Column("chunks", lambda e: number(e.record.chunks)),
        Column("task", lambda e: e.record.task or "", "text"),
    ]
    shown = [e for e in results.methods if e.score is not None or (e.usable and e.record.key_chunk_kept is not None)]
    return Section(
        "accuracy",
        "Accuracy",
        "Shown ×100, with the scorer that made the number and 95 % intervals. "
        "Scores of different scorers are not comparable, and few prompts leave wide intervals.",
        [*blocks, Block(tables=[table("Accuracy, one row a cell", columns, shown)])],
    )


def _scores(results: Results) -> list[Block]:
    """One block a scorer."""
    shown = [e for e in results.methods if e.score is not None]
    blocks = []
    for i, scorer in enumerate(sorted({e.record.scorer or "" for e in shown})):
        rows = [e for e in shown if e.record.scorer == scorer]
        ylabel = f"{rows[0].record.score_name or 'score'} × 100"
        title = f"Score by {scorer}"
        blocks.append(length_block(f"score{i}", rows, _score_point, _say_score, "share", ylabel, title=title))
    return blocks


def _score_point(entry: Entry) -> Point:
    r = entry.record
    value, low, high = (None if x is None else x * 100 for x in (r.score, r.score_ci_low, r.score_ci_high))
    return Point(entry.series, r.context_tokens or 0, value, low, high)


def _say_score(entry: Entry) -> str:
    r = entry.record
    return f"{percent(r.score)} {spread(r.score_ci_low, r.score_ci_high)} ({r.scorer}, {number(r.n_samples)} prompts)"


def _choices(results: Results) -> list[Block]:
    shown = [e for e in results.methods if e.usable and e.record.key_chunk_kept is not None]
    if not shown:
        return []
    ylabel = "needle's chunk kept × 100"
    return [length_block("kept", shown, _kept_point, _say_kept, "share", ylabel, title="Needle's chunk kept")]


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
