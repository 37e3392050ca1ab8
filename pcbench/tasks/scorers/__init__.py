"""Scorers: pure functions prediction × answers → 0…1, each with an id, a version and a source. No torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from reprlib import repr as shortened
from typing import Any

from pcbench.errors import ConfigError, shown

__all__ = ["EVERY", "Metric", "Scorer", "best"]

# the key of `Scorer.metrics` that serves every dataset
EVERY = "*"

Answers = Sequence[Any]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How the predictions of one dataset are scored.

    Args:
        name: what the number is.
        function: prediction, answers → 0…1; with `by_class` the class names follow.
        by_class: a record must name its classes.
        least_answers: how many answers a record must have.
        reads: an error where a record's answers are not what the function compares with.
        package: what the function imports beyond a plain install; extra: the extra that brings it.
        scorer: whose metric it is, for messages.
    """

    name: str
    function: Callable[..., float]
    by_class: bool = False
    least_answers: int = 1
    reads: Callable[[Answers], object] = tuple
    package: str = ""
    extra: str = ""
    scorer: str = ""

    def __call__(self, prediction: str, answers: Answers, classes: Sequence[str] = ()) -> float:
        """0…1.

        Raises:
            ValueError: the record cannot be scored; the message says why.
            ConfigError: the function ended with another error, or returned something else.
        """
        if wrong := self.unfit(answers, classes):
            raise ValueError(wrong)
        given = (prediction, answers, classes) if self.by_class else (prediction, answers)
        try:
            found = self.function(*given)
        except ValueError:
            raise
        except Exception as error:
            raise self._broken(f"{type(error).__name__}: {error} for {shown(prediction)}") from error
        try:
            number = float(found)
        except (TypeError, ValueError):
            raise self._broken(shown(found)) from None
        # NaN is not
        if not 0 <= number <= 1:
            raise self._broken(shown(found))
        return number

    def _broken(self, got: str) -> ConfigError:
        got = " ".join(got.split())
        return ConfigError(f"scorer {self.scorer}: {self.name} from 0 to 1, got {got}; mend its function")

    def unfit(self, answers: Answers, classes: Sequence[str] = ()) -> str:
        """Why a record cannot be scored, whatever was predicted; empty where it can."""
        if len(answers) < self.least_answers:
            return f"at least {self.least_answers} answers, got {len(answers)}"
        if self.by_class and not classes:
            return "all_classes: the names of the classes, got none"
        try:
            self.reads(answers)
        except (ValueError, OverflowError) as error:
            return f"answers that fit {self.name}, got {shortened(answers[0])}: {error}"
        return ""

    def why_not(self) -> str:
        """Why the metric cannot run here; empty where it can."""
        if not self.package or find_spec(self.package):
            return ""
        return f"needs {self.package}; pip install 'pcbench[{self.extra}]'"


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Metrics of one protocol, with what must stand beside their numbers.

    Args:
        id: the name of `registry.SCORERS`.
        version: raised by every change that can move a score.
        summary: one line for `pcbench list scorers`.
        source: where the rules are from.
        metrics: dataset → its metric; `EVERY` serves any dataset.
        benchmark: of stored predictions, whose alone it scores: another one has datasets of the same names; None is
            any.
    """

    id: str
    version: int
    summary: str
    source: str
    metrics: Mapping[str, Metric]
    benchmark: str | None = None

    def metric(self, dataset: str) -> Metric | None:
        """The metric of a dataset, None where the protocol has none."""
        found = self.metrics.get(dataset, self.metrics.get(EVERY))
        return None if found is None else replace(found, scorer=self.id)


def best(function: Callable[[str, str], float]) -> Callable[[str, Answers], float]:
    """The same for several answers: the highest counts."""

    def highest(prediction: str, answers: Answers) -> float:
        return max((function(prediction, str(answer)) for answer in answers), default=0.0)

    return highest
