"""Some prompts with what every method answered, and which chunks it kept."""

from pcbench.report.page.parts import Block, Section
from pcbench.report.page.tables import Align, filled
from pcbench.report.reading.prompts import CHARACTERS
from pcbench.report.reading.results import Entry, Results
from pcbench.report.wording import number, percent
from pcbench.types import Sample

__all__ = ["prompts"]

STRIP = 128
KEPT, LOST, KEPT_NEEDLE, LOST_NEEDLE = "■", "□", "◆", "◇"
TITLES: list[tuple[str, Align]] = [
    ("prompt", "text"),
    ("cell", "text"),
    ("answer", "text"),
    ("right answers", "text"),
    ("score (×100)", "number"),
    ("scorer", "text"),
    ("tokens read", "number"),
    ("chunks", "strip"),
    ("needle at (%)", "number"),
    ("prompt sha256", "code"),
]


def prompts(results: Results) -> Section | None:
    """One row a prompt and cell; None without samples."""
    entries = {(e.run, e.record.cell): e for e in results.entries}
    rows = [
        _row(sample, entry)
        for run in results.runs
        for sample in run.prompts.shown
        if (entry := entries.get((run.name, sample.cell))) is not None and entry.usable
    ]
    if not rows:
        return None
    total = sum(run.prompts.total for run in results.runs)
    said = "All samples"
    if len(rows) < total:
        said = f"{len(rows):,} of {total:,} samples; samples.jsonl in the run's folder holds all"
    notes = [
        f"{said}. Those on which methods disagree come first; texts are cut at {CHARACTERS} characters.",
        f"Chunks in reading order: {KEPT} kept, {LOST} not; with the needle: {KEPT_NEEDLE} kept, {LOST_NEEDLE} not.",
    ]
    table = filled("Prompts, one row an answer", TITLES, rows)
    lead = "What was answered, to see with your own eyes what a score means."
    return Section("prompts", "Prompts", lead, [Block("", notes=notes, tables=[table])])


def _row(sample: Sample, entry: Entry) -> list[str]:
    scored = sample.score is not None and sample.scorer
    return [
        sample.id,
        entry.series.label,
        sample.prediction.strip() or "(nothing)",
        " · ".join(sample.answers),
        percent(sample.score) if scored else "",
        sample.scorer or "" if scored else "",
        _read(sample),
        _strip(sample, entry),
        percent(sample.key_depth),
        sample.prompt_sha256[:12],
    ]


def _read(sample: Sample) -> str:
    """Tokens of the prompt, and of how many where its middle was cut out."""
    cut = sample.tokens_before is not None and sample.tokens_before != sample.tokens
    return f"{number(sample.tokens)} of {number(sample.tokens_before)}" if cut else number(sample.tokens)


def _strip(sample: Sample, entry: Entry) -> str:
    """Which chunks were kept, a character each; in words where there are too many."""
    if sample.kept_chunks is None:
        return ""
    count = sample.chunks or entry.record.chunks or max(sample.kept_chunks, default=-1) + 1
    kept = set(sample.kept_chunks)
    if count > STRIP:
        needle = (
            "" if sample.key_chunk is None else f", the needle's {'kept' if sample.key_chunk in kept else 'not kept'}"
        )
        return f"{len(kept)} of {count} kept{needle}"
    marks = [KEPT if i in kept else LOST for i in range(count)]
    if sample.key_chunk is not None and sample.key_chunk < count:
        marks[sample.key_chunk] = KEPT_NEEDLE if sample.key_chunk in kept else LOST_NEEDLE
    return "".join(marks)
