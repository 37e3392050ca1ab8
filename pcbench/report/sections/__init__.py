"""The sections of a report, one module each: a function from results to a `Section`, or None without records for it."""

from collections.abc import Callable

from pcbench.report.page import Section
from pcbench.report.results import Results
from pcbench.report.sections.accuracy import accuracy
from pcbench.report.sections.cells import cells
from pcbench.report.sections.correctness import correctness
from pcbench.report.sections.distribution import distribution
from pcbench.report.sections.kernels import kernels
from pcbench.report.sections.memory import memory
from pcbench.report.sections.prompts import prompts
from pcbench.report.sections.provenance import provenance
from pcbench.report.sections.rates import rates
from pcbench.report.sections.runs import runs
from pcbench.report.sections.speedup import speedup
from pcbench.report.sections.stages import stages
from pcbench.report.sections.times import times
from pcbench.report.sections.tradeoff import tradeoff

__all__ = ["SECTIONS", "sections"]

# in the order of the page
SECTIONS: tuple[Callable[[Results], Section | None], ...] = (
    tradeoff,
    times,
    speedup,
    rates,
    stages,
    memory,
    accuracy,
    prompts,
    kernels,
    correctness,
    distribution,
    runs,
    cells,
    provenance,
)


def sections(results: Results) -> list[Section]:
    """Those that have something to show."""
    return [section for make in SECTIONS if (section := make(results)) is not None]
