"""The sections of a report, one module each: a function from results to a `Section`, or None without records for it."""

from collections.abc import Callable

from pcbench.report.page.parts import Section
from pcbench.report.reading.results import Results
from pcbench.report.sections.answers.accuracy import accuracy
from pcbench.report.sections.answers.budgets import budgets
from pcbench.report.sections.answers.choosing import choose
from pcbench.report.sections.answers.prompts import prompts
from pcbench.report.sections.answers.tradeoff import tradeoff
from pcbench.report.sections.cells import cells
from pcbench.report.sections.correctness import correctness
from pcbench.report.sections.kernels import kernels
from pcbench.report.sections.memory import memory
from pcbench.report.sections.others import others
from pcbench.report.sections.perplexity import perplexity
from pcbench.report.sections.provenance import provenance
from pcbench.report.sections.runs import runs
from pcbench.report.sections.speed.decoding import decoding
from pcbench.report.sections.speed.distribution import distribution
from pcbench.report.sections.speed.rates import rates
from pcbench.report.sections.speed.serving import serving
from pcbench.report.sections.speed.speedup import speedup
from pcbench.report.sections.speed.stages import stages
from pcbench.report.sections.speed.times import times

__all__ = ["SECTIONS", "sections"]

# in the order of the page
SECTIONS: tuple[Callable[[Results], Section | None], ...] = (
    choose,
    budgets,
    tradeoff,
    times,
    speedup,
    decoding,
    rates,
    stages,
    serving,
    memory,
    accuracy,
    perplexity,
    prompts,
    kernels,
    others,
    correctness,
    distribution,
    runs,
    cells,
    provenance,
)


def sections(results: Results) -> list[Section]:
    """Those that have something to show."""
    return [section for make in SECTIONS if (section := make(results)) is not None]
