"""Published scores of full attention, to check a run's own against: the baseline is where runs go wrong. No torch.

Models go by the last part of their id; the tables name them in small letters, with the names of benchmarks too.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import fmean
from typing import Any, Literal

__all__ = ["Limits", "Published", "RunFacts", "TaskRead", "prompt_limit", "published_score"]

Limits = Literal["published", "released"]
# reruns of one setting differ by so much: GovReport of Llama-2-7B by flash attention or by SDPA
TOLERANCE = 3.0
# a chat template around the prompt, and tokenising again what was cut
TOKENS_BESIDE = 128


@dataclass(frozen=True)
class TaskRead:
    """What was read of a task: its longest prompt, and whether some prompt was longer before."""

    task: str
    longest_tokens: int
    cut: bool


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a score was made with.

    Args:
        model: name, Hugging Face id or path.
        tasks: of several the score is their plain mean.
        context_tokens: of the suite.
        prompts: whose prompt texts.
        scorer: its id.
        whole: every record of every task was answered.
    """

    model: str
    tasks: Sequence[TaskRead]
    context_tokens: int | None
    prompts: str | None
    scorer: str
    whole: bool


@dataclass(frozen=True)
class Published:
    """A published score × 100 with its source."""

    score: float
    source: str

    def differs(self, score: float) -> bool:
        """Whether a score 0…1 is too far away for the same setting."""
        return abs(100 * score - self.score) > TOLERANCE

    def line(self, score: float) -> str:
        """Both numbers and their difference; where they differ, what to look at."""
        hint = "; look at chat template, stop tokens and truncation" if self.differs(score) else ""
        return f"{100 * score:.2f}, published {self.score:.2f} ({self.source}): {100 * score - self.score:+.2f}{hint}"


def prompt_limit(model: str, task: str, by: Limits = "published") -> int | None:
    """Tokens of a prompt, without its chat template, that scores of a model were made with.

    Args:
        model: name, Hugging Face id or path.
        task: id.
        by: a benchmark's published scores (LongBench-E's as LongBench's), or ParallelComp's released runner.

    Returns:
        None where no limit is known.
    """
    if by == "released":
        name = model.lower()
        return next((row["tokens"] for row in reversed(_tables()["released"]) if row["name"] in name), None)
    benchmark = task.partition("/")[0].removesuffix("-e")
    limit: int | None = _model(model).get("prompt_tokens", {}).get(benchmark)
    return limit


def published_score(facts: RunFacts) -> Published | None:
    """The published score of the same model and settings; None where there is none."""
    if not facts.whole or facts.prompts != "official":
        return None
    model, benchmark = _model(facts.model), facts.tasks[0].task.partition("/")[0]
    names = [read.task.removeprefix(f"{benchmark}/") for read in facts.tasks]
    limit = prompt_limit(facts.model, facts.tasks[0].task)
    if not all(_as_published(read, limit) for read in facts.tasks):
        return None
    for row in _tables().get(benchmark, []):
        if row["model"] == model.get("name") and facts.scorer == row["scorer"]:
            score = _listed(row, names, facts)
            if score is not None:
                return Published(score, row["source"])
    return None


def _as_published(read: TaskRead, limit: int | None) -> bool:
    """Whether a task's prompts were cut where the published ones were; without a known limit, nowhere."""
    if limit is None:
        return not read.cut
    least = limit - TOKENS_BESIDE if read.cut else 0
    return least <= read.longest_tokens <= limit + TOKENS_BESIDE


def _listed(row: dict[str, Any], names: Sequence[str], facts: RunFacts) -> float | None:
    if "averages" in row:
        return row["averages"].get(str(facts.context_tokens)) if len(names) == row["tasks"] else None
    scores = row["scores"]
    return fmean(scores[name] for name in names) if set(names) <= scores.keys() else None


def _model(name: str) -> dict[str, Any]:
    last = name.rstrip("/").rpartition("/")[2].lower()
    return next((model for model in _tables()["model"] if last in model["names"]), {})


@cache
def _tables() -> dict[str, list[dict[str, Any]]]:
    tables = tomllib.loads(files("pcbench").joinpath("tasks/scorecards/published.toml").read_text(encoding="utf-8"))
    return {name: list(rows) for name, rows in tables.items()}
