"""Published scores of full attention, to check a run's own against: the baseline is where runs go wrong. No torch."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import fmean
from typing import Any

__all__ = ["Published", "RunFacts", "published_score"]

# reruns of one setting differ by so much: GovReport of Llama-2-7B by flash attention or by SDPA
TOLERANCE = 3.0
# a chat template around the prompt, and tokenising again what was cut
TOKENS_BESIDE = 128


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a score was made with.

    Args:
        model: name, Hugging Face id or path.
        tasks: ids; of several the score is their plain mean.
        context_tokens: of the suite.
        prompts: whose prompt texts.
        scorer: its id.
        whole: every record of every task was answered.
        longest_tokens: of the longest prompt as it was read.
        cut: some prompt was longer before.
    """

    model: str
    tasks: Sequence[str]
    context_tokens: int | None
    prompts: str | None
    scorer: str
    whole: bool
    longest_tokens: int
    cut: bool


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


def published_score(facts: RunFacts) -> Published | None:
    """The published score of the same model and settings; None where there is none."""
    if not facts.whole or facts.prompts != "official":
        return None
    benchmark = facts.tasks[0].partition("/")[0]
    names = [task.removeprefix(f"{benchmark}/") for task in facts.tasks]
    model = facts.model.rstrip("/").rpartition("/")[2].lower()
    for row in _tables().get(benchmark, []):
        if model in row["models"] and facts.scorer == row["scorer"]:
            score = _listed(row, names, facts)
            if score is not None:
                return Published(score, row["source"])
    return None


def _listed(row: dict[str, Any], names: Sequence[str], facts: RunFacts) -> float | None:
    if "averages" in row:
        return row["averages"].get(str(facts.context_tokens)) if len(names) == row["tasks"] else None
    limit, scores = row["prompt_tokens"], row["scores"]
    if facts.longest_tokens > limit + TOKENS_BESIDE:
        return None
    if facts.cut and facts.longest_tokens < limit - TOKENS_BESIDE:
        return None
    return fmean(scores[name] for name in names) if set(names) <= scores.keys() else None


@cache
def _tables() -> dict[str, list[dict[str, Any]]]:
    tables = tomllib.loads(files("pcbench").joinpath("tasks/published.toml").read_text(encoding="utf-8"))
    return {benchmark: list(rows) for benchmark, rows in tables.items()}
