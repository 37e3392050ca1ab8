"""The sections of a report, one module each: a function from results to a `Section`, or None without records for it."""

from collections.abc import Callable

from pcbench.report.page import Section
from pcbench.report.results import Results
from pcbench.report.sections.accuracy import accuracy
from pcbench.report.sections.cells import cells
from pcbench.report.sections.correctness import correctness
from pcbench.report.sections.kernels import kernels
from pcbench.report.sections.memory import memory
from pcbench.report.sections.provenance import provenance
from pcbench.report.sections.speedup import speedup
from pcbench.report.sections.stages import stages
from pcbench.report.sections.times import times

__all__ = ["SECTIONS", "sections"]

# in the order of the page
SECTIONS: tuple[Callable[[Results], Section | None], ...] = (
    times,
    speedup,
    memory,
    accuracy,
    stages,
    kernels,
    correctness,
    cells,
    provenance,
)


def sections(results: Results) -> list[Section]:
    """Those that have something to show."""
    return [section for make in SECTIONS if (section := make(results)) is not None]
