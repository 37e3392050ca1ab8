"""What a report keeps of samples.jsonl: counts for all prompts, texts for a few."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

from pydantic import Field

from pcbench.config import Table
from pcbench.errors import ConfigError
from pcbench.rows import EDITED, ROWS
from pcbench.types import Sample

__all__ = ["DEPTHS", "Depth", "PackedPrompts", "Prompts", "keep"]

# equal parts of the context in which needles are counted
DEPTHS = 5
# samples with their texts in one report, answers of a sample, characters of a text
SHOWN, ANSWERS, CHARACTERS = 150, 3, 300

Count = Annotated[int, Field(ge=0)]
# the fields of `Depth`
Counts = Annotated[list[Count | Annotated[float, Field(ge=0)]], Field(min_length=5, max_length=5)]


@dataclass
class Depth:
    """Prompts of a cell whose needle begins in one part of the context.

    Args:
        prompts: how many; scored: of these with a score; score: their sum.
        chosen: prompts of which it is known whether the needle's chunk was kept; kept: of these it was.
    """

    prompts: int = 0
    scored: int = 0
    score: float = 0.0
    chosen: int = 0
    kept: int = 0


@dataclass(frozen=True)
class Prompts:
    """The prompts of a run.

    Args:
        total: samples of the run.
        choices: cell → prompts with a choice of chunks.
        depths: cell → `DEPTHS` parts, first part of the context first.
        shown: some samples, long texts cut; prompts on which cells disagree come first.
    """

    total: int
    choices: dict[str, int]
    depths: dict[str, list[Depth]]
    shown: list[Sample]

    def packed(self) -> dict[str, Any]:
        """As plain data; empty fields of samples are left out."""
        rows = [{k: v for k, v in asdict(s).items() if v is not None and k != "warnings"} for s in self.shown]
        depths = {cell: [[getattr(d, f.name) for f in fields(Depth)] for d in ds] for cell, ds in self.depths.items()}
        return {"total": self.total, "choices": self.choices, "depths": depths, "shown": rows}


class PackedPrompts(Table):
    """What `Prompts.packed` gives."""

    total: Count
    choices: dict[str, Count]
    depths: dict[str, Annotated[list[Counts], Field(min_length=DEPTHS, max_length=DEPTHS)]]
    shown: list[dict[str, Any]]

    def unpacked(self, where: str) -> Prompts:
        """The inverse of `packed`.

        Raises:
            ConfigError: a sample or a count is none; the message begins with `where`.
        """
        depths = {cell: [Depth(*counts) for counts in rows] for cell, rows in self.depths.items()}
        for cell, parts in depths.items():
            if not all(d.score <= d.scored <= d.prompts and d.kept <= d.chosen <= d.prompts for d in parts):
                raise ConfigError(f"{where}.depths.{cell}: parts of as many prompts, got more; {EDITED}")
        unknown = {"score": None, "scorer": None}
        rows = [ROWS[Sample].read(unknown | row, f"{where}.shown[{i}]") for i, row in enumerate(self.shown)]
        return Prompts(self.total, self.choices, depths, rows)


def keep(samples: Sequence[Sample]) -> Prompts:
    """Counts every sample and chooses the ones whose texts are shown."""
    choices: dict[str, int] = {}
    depths: dict[str, list[Depth]] = {}
    for sample in samples:
        if sample.kept_chunks is not None:
            choices[sample.cell] = choices.get(sample.cell, 0) + 1
        if sample.key_depth is not None:
            parts = depths.setdefault(sample.cell, [Depth() for _ in range(DEPTHS)])
            _count(parts[min(int(sample.key_depth * DEPTHS), DEPTHS - 1)], sample)
    return Prompts(len(samples), choices, depths, [_cut(sample) for sample in _chosen(samples)])


def _count(part: Depth, sample: Sample) -> None:
    part.prompts += 1
    if sample.score is not None and sample.scorer:
        part.scored += 1
        part.score += sample.score
    if sample.key_chunk is not None and sample.kept_chunks is not None:
        part.chosen += 1
        part.kept += sample.key_chunk in sample.kept_chunks


def _chosen(samples: Sequence[Sample]) -> list[Sample]:
    """Whole prompts, all cells that saw them: those with the widest range of scores first, then in order."""
    prompts: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        prompts.setdefault((sample.id, sample.prompt_sha256), []).append(sample)

    def spread(seen: list[Sample]) -> float:
        scores = [s.score for s in seen if s.score is not None]
        return max(scores) - min(scores) if scores else 0.0

    # one prompt of every id's task before the second of any
    ranked: dict[str, list[list[Sample]]] = {}
    for seen in sorted(prompts.values(), key=spread, reverse=True):
        ranked.setdefault(seen[0].id.rpartition("/")[0], []).append(seen)
    found: list[Sample] = []
    for turn in range(max(map(len, ranked.values()), default=0)):
        for queue in ranked.values():
            if turn < len(queue) and len(found) + len(queue[turn]) <= SHOWN:
                found += queue[turn]
    return found


def _cut(sample: Sample) -> Sample:
    """With texts short enough to look at, and without what the page does not show."""
    kept = asdict(sample) | {
        "prediction": _short(sample.prediction),
        "answers": _few(sample.answers),
        "prefill_ms": None,
        "chunk_scores": None,
        "warnings": [],
    }
    return Sample(**kept)


def _few(answers: Sequence[str]) -> list[str]:
    more = [f"and {len(answers) - ANSWERS:,} more"] if len(answers) > ANSWERS else []
    return [_short(answer) for answer in answers[:ANSWERS]] + more


def _short(text: str) -> str:
    """The start of a text; what is missing is counted and named by the hash of the whole."""
    if len(text) <= CHARACTERS:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{text[:CHARACTERS]}… ({len(text) - CHARACTERS:,} more characters, sha256 {digest})"
